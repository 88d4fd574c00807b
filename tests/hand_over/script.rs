//! What a client does on one transport, made up from a seed. It is bytes, so that two gateways get the same ones.

use super::dice::Dice;
use super::raw::{BINARY, CLOSE, FIN, PING, PONG, TEXT, frame, message};

const NAMESPACES: [&str; 2] = ["/realtime", "//realtime"];
/// Steps of a script at most, the end not counted.
const STEPS: usize = 14;

/// Payloads of close frames, with and without a status that a client may give.
const CLOSES: [&[u8]; 8] =
    [b"", b"\x03", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xe8\xff", b"\x03\xed", b"\x0f\xa0app", b"\xff\xff?"];

/// Texts that end the transport.
const LAST_TEXTS: [&str; 36] = [
    "",
    "1",
    "1x",
    "0",
    "5",
    "6",
    "2probe",
    "3probe",
    "b",
    "bAQID",
    "x",
    "é",
    "4",
    "49",
    "44",
    "48x",
    "4x",
    "44/realtime,{}",
    "42[\"x\"]",
    "41",
    "42/realtime,",
    "42/realtime,{}",
    "42/realtime,[5]",
    "42/realtime,5[",
    "42/realtime,[\"a\",]",
    "42/realtime,[\"a\\u0062\"]",
    "42/realtime,[\"a\"]x",
    "42//realtime,[",
    "43/realtime,[1]",
    "45-/realtime,[\"x\"]",
    "455-/realtime,[\"x\"]",
    "4510-/realtime,[\"x\"]",
    "45/realtime,[\"x\"]",
    "46/realtime,[\"x\"]",
    "47",
    "4\u{1f4a5}",
];

/// A step: bytes, and what they are answered with.
pub(super) struct Step {
    pub(super) bytes: Vec<u8>,
    /// How the text begins that answers it; without one the next step waits for the answer to a ping.
    pub(super) answer: Option<String>,
    /// For a failing test.
    pub(super) what: String,
}

/// A script under way.
pub(super) struct Script {
    dice: Dice,
    token: String,
    /// Whether it is signed in to each of the namespaces.
    signed_in: [bool; 2],
    /// Whether it sent a second CONNECT there. It leaves that one no more: the library spawns a task for each CONNECT, which
    /// may pass it over before the client leaves or admit it behind that.
    sent_twice: [bool; 2],
    acks: usize,
    pub(super) steps: Vec<Step>,
}

impl Script {
    pub(super) fn new(seed: u64, token: &str) -> Self {
        let mut script = Self {
            dice: Dice::new(seed),
            token: token.to_owned(),
            signed_in: [false; 2],
            sent_twice: [false; 2],
            acks: 0,
            steps: Vec::new(),
        };
        script.sign_in(0);
        for _ in 0..script.dice.roll(STEPS) {
            script.add_step();
        }
        script.add_end();
        script
    }

    fn text(&mut self, text: &str, answer: Option<String>) {
        let bytes = message(TEXT, text.as_bytes(), &mut self.dice);
        self.raw(bytes, answer, text);
    }

    fn raw(&mut self, bytes: Vec<u8>, answer: Option<String>, what: &str) {
        let what = what.chars().take(80).collect();
        self.steps.push(Step { bytes, answer, what });
    }

    fn sign_in(&mut self, which: usize) {
        let namespace = NAMESPACES[which];
        // A second CONNECT is passed over.
        self.sent_twice[which] |= self.signed_in[which];
        let answer = (!self.signed_in[which]).then(|| format!("40{namespace},"));
        self.signed_in[which] = true;
        let packet = format!(r#"40{namespace},{{"token":"{}"}}"#, self.token);
        self.text(&packet, answer);
    }

    fn may_leave(&self, which: usize) -> bool {
        self.signed_in[which] && !self.sent_twice[which]
    }

    fn leave(&mut self, which: usize) {
        self.signed_in[which] = false;
        self.text(&format!("41{},", NAMESPACES[which]), None);
    }

    /// One of the namespaces that it is signed in to.
    fn present(&mut self) -> Option<&'static str> {
        let there: Vec<&str> = (0..2).filter(|which| self.signed_in[*which]).map(|which| NAMESPACES[which]).collect();
        (!there.is_empty()).then(|| *self.dice.choose(&there))
    }

    fn command(&mut self) {
        let Some(namespace) = self.present() else { return };
        let argument = *self.dice.choose(&[
            r#"["join_room",{"room":"order:1"}]"#,
            r#"["leave_room",{"room":"order:1"}]"#,
            r#"["join_room",{"room":5}]"#,
            r#"["join_rooms",{"rooms":[{"room":"order:2"},{"room":"order:3"}]}]"#,
            r#"["get_missed_events",{"room":"order:1","since":1}]"#,
            r#"["fly_away"]"#,
            r#"["update_location",{"lat":1,"lng":2}]"#,
            r#"["event_ack",{"eventId":"e"}]"#,
            r#"["refresh_token",{"token":"x"}]"#,
        ]);
        let long = format!(r#"["leave_room",{{"room":"order:1","fill":"{}"}}]"#, "ü".repeat(self.dice.roll(20_000)));
        let argument = if self.dice.roll(8) == 0 { &long } else { argument };
        if self.dice.roll(4) == 0 {
            return self.text(&format!("42{namespace},{argument}"), None);
        }
        self.acks += 1;
        let id = self.acks;
        self.text(&format!("42{namespace},{id}{argument}"), Some(format!("43{namespace},{id}[")));
    }

    /// A packet with attachments.
    fn attachments(&mut self) {
        let Some(namespace) = self.present() else { return };
        let count = self.dice.roll(5);
        self.acks += 1;
        let id = self.acks;
        let packet = format!(r#"45{count}-{namespace},{id}["leave_room",{{"_placeholder":true,"num":0}}]"#);
        let mut bytes = message(TEXT, packet.as_bytes(), &mut self.dice);
        for _ in 0..count {
            let attachment: Vec<u8> = (0..self.dice.roll(300)).map(|_| self.dice.byte()).collect();
            // A heartbeat may stand between a packet and what is attached.
            if self.dice.roll(3) == 0 {
                bytes.extend(frame(FIN | TEXT, b"3", &mut self.dice));
            }
            bytes.extend(message(BINARY, &attachment, &mut self.dice));
        }
        self.raw(bytes, Some(format!("43{namespace},{id}[")), &packet);
    }

    fn add_step(&mut self) {
        let which = self.dice.roll(2);
        match self.dice.roll(14) {
            0..5 => self.command(),
            5 => self.attachments(),
            6 => self.sign_in(which),
            7 if self.may_leave(which) => self.leave(which),
            8 if self.may_leave(which) => {
                self.leave(which);
                self.sign_in(which);
            }
            9 if !self.signed_in[which] => {
                let packet = format!(r#"40{},{{"token":"no token"}}"#, NAMESPACES[which]);
                self.text(&packet, Some("44".to_owned()));
            }
            10 => {
                let packet =
                    *self.dice.choose(&["40", "40{}", "40/nope,", "40/realtime?x=1,{}", "40/ü\"\\,{}", "40/nope"]);
                self.text(packet, Some("44".to_owned()));
            }
            11 => {
                let packet = *self.dice.choose(&[
                    "3",
                    "2",
                    "3x",
                    "2 ",
                    "42/elsewhere,[\"x\"]",
                    "43/elsewhere,1[1]",
                    "41/elsewhere",
                ]);
                self.text(packet, None);
            }
            12 => {
                let payload: Vec<u8> = (0..self.dice.roll(126)).map(|_| self.dice.byte()).collect();
                let first = *self.dice.choose(&[FIN | PING, FIN | PONG]);
                let bytes = frame(first, &payload, &mut self.dice);
                self.raw(bytes, None, "a ping or a pong");
            }
            _ => {
                let Some(namespace) = self.present() else { return };
                let packet = *self.dice.choose(&["43#,1[1]", "43#,7[]", "460-#,1[]", "450-#,[\"x\"]"]);
                self.text(&packet.replace('#', namespace), None);
            }
        }
    }

    /// Something that ends the transport.
    fn add_end(&mut self) {
        match self.dice.roll(8) {
            0..3 => {
                let text = *self.dice.choose(&LAST_TEXTS);
                self.text(text, None);
            }
            3 => {
                let payload = *self.dice.choose(&CLOSES);
                let bytes = frame(FIN | CLOSE, payload, &mut self.dice);
                self.raw(bytes, None, "a close frame");
            }
            4 => {
                let broken = no_frames(&mut self.dice.clone());
                let bytes = self.dice.choose(&broken).clone();
                self.raw(bytes, None, "no frame of a client");
            }
            5 => {
                let bytes = message(BINARY, b"nothing announced this", &mut self.dice);
                self.raw(bytes, None, "a binary message");
            }
            6 => {
                let long = "x".repeat(64 * 1024 + 1 + self.dice.roll(70_000));
                let bytes = frame(FIN | TEXT, long.as_bytes(), &mut self.dice);
                self.raw(bytes, None, "a message that is too long");
            }
            _ => {
                let which = usize::from(self.sent_twice[0]);
                if self.sent_twice[which] {
                    return self.text("1", None);
                }
                if self.signed_in[which] {
                    self.leave(which);
                }
                let packet = *self.dice.choose(&["42#,1[\"leave_room\",{}]", "41#,", "43#,1[1]", "450-#,[\"x\"]"]);
                self.text(&packet.replace('#', NAMESPACES[which]), None);
            }
        }
    }
}

/// What no client may send.
fn no_frames(dice: &mut Dice) -> Vec<Vec<u8>> {
    vec![
        // Not masked; a reserved bit; opcodes without a meaning.
        vec![0x81, 1, b'3'],
        frame(0xc1, b"3", dice),
        frame(0x83, b"3", dice),
        frame(0x8b, b"3", dice),
        // A control frame in parts, and one that is too long; the end of nothing, and two beginnings.
        frame(PING, b"3", dice),
        frame(FIN | PING, &[0; 126], dice),
        frame(FIN, b"3", dice),
        [frame(TEXT, b"3", dice), frame(FIN | TEXT, b"3", dice)].concat(),
        // A text that is none.
        frame(FIN | TEXT, b"\xff\xfe", dice),
        frame(FIN | CLOSE, &[3; 200], dice),
    ]
}
