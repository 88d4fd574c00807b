//! The inbox: a socket's commands, queued by the reader's task in the order sent, and performed one after the other by
//! a task that exists only while there are any.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use hallway_rooms::close::{Close, Refusal};
use metrics::counter;
use parking_lot::Mutex;
use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{MessageHandler, Value};
use socketioxide::socket::Socket;

use super::Door;
use super::command::Command;
use super::encode::Namespace;
use super::rates::{PaceVerdict, TransportRates};
use crate::memory::MemoryShare;
use crate::metrics::{COMMANDS_REFUSED, limit::Limit};
use crate::session::Session;

/// Commands that may still come out of the library's read buffer after reading was paused.
const BUFFERED: usize = 1024;

/// Bytes of waiting commands of one socket above which reading is paused too: sixteen commands of the default maximum
/// length.
const PENDING_BYTES: usize = 1024 * 1024;
/// Bytes that a waiting command counts for beside its text.
const COMMAND: usize = 256;

/// The message handler of one socket.
#[derive(Clone, Debug)]
pub(super) struct Inbox(pub(super) Arc<SignedInSocket>);

/// A socket with a session.
#[derive(Debug)]
pub(super) struct SignedInSocket {
    pub(super) door: Arc<Door>,
    pub(super) session: Arc<Session>,
    /// Encodes its replies.
    pub(super) namespace: Arc<Namespace>,
    /// Shared with the other namespaces of the transport.
    pace: TransportRates,
    /// Commands that wait; shared by the reader's task and the worker.
    queue: Mutex<CommandQueue>,
}

#[derive(Debug)]
struct CommandQueue {
    /// Waiting commands with the bytes that each counts for.
    commands: VecDeque<(Command, usize)>,
    /// Sum of those bytes.
    bytes: usize,
    /// The same bytes in the node's memory budget.
    held: MemoryShare,
    /// Whether a task performs commands; at most one does, which keeps them in order.
    working: bool,
    /// Whether reading from the peer is paused by this queue.
    paused: bool,
}

/// Marker type: socketioxide asks for one to tell this handler from closures.
#[derive(Debug)]
pub(super) struct EventHandlerMark;

impl MessageHandler<LocalAdapter, EventHandlerMark> for Inbox {
    fn call(&self, _: Arc<Socket<LocalAdapter>>, packet: Value, ack: Option<i64>) {
        // Binary packets carry attachments, which no command takes.
        let Value::Str(packet, _) = packet else { return };
        self.0.take_command(&packet, ack);
    }
}

impl CommandQueue {
    fn push(&mut self, command: Command, bytes: usize) {
        self.commands.push_back((command, bytes));
        self.set_bytes(self.bytes + bytes);
    }

    fn pop(&mut self) -> Option<Command> {
        let (command, bytes) = self.commands.pop_front()?;
        self.set_bytes(self.bytes - bytes);
        Some(command)
    }

    fn clear(&mut self) {
        self.commands.clear();
        self.set_bytes(0);
    }

    fn set_bytes(&mut self, bytes: usize) {
        self.bytes = bytes;
        self.held.set_bytes(bytes);
    }

    fn is_full(&self, most: usize) -> bool {
        self.commands.len() >= most || self.bytes >= PENDING_BYTES
    }

    fn has_room(&self, most: usize) -> bool {
        self.commands.len() <= most / 2 && self.bytes <= PENDING_BYTES / 2
    }
}

impl SignedInSocket {
    pub(super) fn new(
        door: Arc<Door>,
        session: Arc<Session>,
        namespace: Arc<Namespace>,
        pace: TransportRates,
    ) -> Arc<Self> {
        let held = door.memory.hold_bytes(0);
        let queue = CommandQueue { commands: VecDeque::new(), bytes: 0, held, working: false, paused: false };
        Arc::new(Self { door, session, namespace, pace, queue: Mutex::new(queue) })
    }

    /// Takes the array of an EVENT packet.
    pub(super) fn take_command(self: &Arc<Self>, packet: &str, ack: Option<i64>) {
        // Before parsing, which is what a flood would make expensive.
        if !self.keeps_pace(ack) {
            return;
        }
        match Command::parse(packet, ack) {
            Ok(command) => self.queue_command(command, packet.len()),
            // A Socket.IO client never sends broken JSON, so this peer does not speak the protocol.
            Err(_) => self.session.close_transport(Close::MalformedFrame),
        }
    }

    /// Whether a command that has just arrived is to be parsed. If not, it is refused in its turn or, without an ack
    /// id, dropped.
    fn keeps_pace(self: &Arc<Self>, ack: Option<i64>) -> bool {
        let verdict = self.pace.judge_command(self.door.pace, Instant::now());
        if verdict == PaceVerdict::Fine {
            return true;
        }
        Limit::CommandsPerMinute.note_reached();
        if verdict == PaceVerdict::TooMany {
            counter!(COMMANDS_REFUSED, "reason" => Close::TooManyCommands.code()).increment(1);
            self.session.close_transport(Close::TooManyCommands);
            return false;
        }
        counter!(COMMANDS_REFUSED, "reason" => Refusal::RateLimited.code()).increment(1);
        // Queued and not answered here, so that replies leave in the order of the commands.
        if let Some(ack) = ack {
            self.queue_command(Command::refused_unread(Refusal::RateLimited, ack), 0);
        }
        false
    }

    fn queue_command(self: &Arc<Self>, command: Command, length: usize) {
        let mut queue = self.queue.lock();
        // Reading was paused long before. More than a read buffer can hold should be impossible, and the queue must
        // stay bounded.
        if queue.commands.len() >= self.door.pending_commands + BUFFERED {
            drop(queue);
            return self.session.close_transport(Close::TooManyCommands);
        }
        queue.push(command, length + COMMAND);
        // One pause per queue: pauses are counted, and each needs its own resume.
        if !queue.paused && (queue.is_full(self.door.pending_commands) || self.door.memory.is_tight()) {
            queue.paused = true;
            self.session.lane().wire().pause_reads();
        }
        // `working` is set under the lock that the worker clears it under, so no command is left without a worker.
        if !std::mem::replace(&mut queue.working, true) {
            drop(queue);
            self.door.tasks.spawn(self.clone().perform_queued());
        }
    }

    async fn perform_queued(self: Arc<Self>) {
        while let Some(command) = self.next() {
            self.perform_command(command).await;
        }
    }

    fn next(&self) -> Option<Command> {
        let mut queue = self.queue.lock();
        // Commands of a session that has ended, or was told to go, must have no effect any more.
        if self.session.is_finished() || self.session.is_kicked() {
            queue.clear();
        }
        let command = queue.pop();
        // At half of the bounds, so that a full queue does not pause and resume with each command.
        if queue.paused && queue.has_room(self.door.pending_commands) {
            queue.paused = false;
            self.session.lane().wire().resume_reads();
        }
        if command.is_none() {
            queue.working = false;
            // An idle socket keeps no buffer.
            queue.commands = VecDeque::new();
        }
        command
    }
}
