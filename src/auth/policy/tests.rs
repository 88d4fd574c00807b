//! Rules judged over claims: the defaults room by room, conditions of one's own, and claims that mean harm.

use std::time::Duration;

use hallway_rooms::class::Retention;
use serde_json::{Value, json};

use super::*;

const RETENTION: Retention = Retention { max_events: 1, ttl: Duration::from_secs(1) };

fn classes() -> Classes {
    let mut classes = Classes::built_in(RETENTION, RETENTION.ttl);
    classes.configure("fleet:{fleetId}:alerts", RETENTION, |_| {}).expect("a form");
    classes
}

fn policy(staff_roles: &[&str]) -> Policy {
    let rules =
        classes().all_classes().iter().map(|class| PolicyRule::default_of(&class.form).expect("it compiles")).collect();
    let locate = Expression::compile(defaults::UPDATE_LOCATION, RuleSubject::User).expect("it compiles");
    Policy::new(rules, locate, staff_roles.iter().map(ToString::to_string).collect())
}

fn claims(all: Value) -> Claims {
    let subject = all["sub"].as_str().expect("a subject").into();
    Claims { subject, expires_ms: 0, issued_ms: None, token_id: None, json: all.to_string().into() }
}

const OPEN: [&str; 7] =
    ["order:o1", "store:s1", "zone:z1", "product:p1", "variant:v1", "store:s1:zone:z1", "fleet:f1:alerts"];

const GUARDED: [&str; 13] = [
    "user:u1",
    "user:u2",
    "store:s1:orders",
    "store:s2:orders",
    "zone:z1:agents",
    "zone:z2:agents",
    "agent:a1",
    "agent:a1:orders",
    "agent:a2",
    "orders:active",
    "agents:all",
    "stores:all",
    "dashboard:admin",
];

/// Asserts which of the guarded rooms open; the others are open to every user.
#[track_caller]
fn check(who: Value, allowed: &[&str]) {
    let (policy, classes, who) = (policy(&["admin", "staff", "dispatcher"]), classes(), claims(who));
    for key in OPEN.iter().chain(&GUARDED) {
        let room = classes.find_room(key).expect("a room");
        let expected = OPEN.contains(key) || allowed.contains(key);
        assert_eq!(policy.rule_allows(&who, &room), expected, "{key} for {:?}", who.all());
    }
}

/// Judges one condition of one's own on `store:7:orders`.
fn judge(text: &str, who: Value) -> Result<bool, EvaluationError> {
    let form: Form = "store:{storeId}:orders".parse().expect("a form");
    let expression =
        Expression::compile(text, RuleSubject::Room(&form)).unwrap_or_else(|error| panic!("{text}: {error}"));
    let claims = claims(who);
    expression.judge_facts(&PolicyInput {
        claims: &claims,
        room: Some((&form, "store:7:orders")),
        staff: false,
        now_s: 1000,
    })
}

#[track_caller]
fn refuses(text: &str, expected: &str) {
    let form: Form = "store:{storeId}:orders".parse().expect("a form");
    let error = Expression::compile(text, RuleSubject::Room(&form)).expect_err(text).to_string();
    assert!(error.contains(expected), "{text}: {error}");
}

#[test]
fn a_customer_enters_their_own_and_the_public_rooms() {
    check(json!({"sub": "u1"}), &["user:u1"]);
}

#[test]
fn an_agent_enters_their_own_rooms_and_their_zone() {
    let agent = json!({"sub": "u1", "role": "agent", "agentId": "a1", "zoneId": "z1"});
    check(agent, &["user:u1", "agent:a1", "agent:a1:orders", "zone:z1:agents"]);
    check(json!({"sub": "a1", "role": "agent"}), &["agent:a1", "agent:a1:orders"]);
    check(json!({"sub": "x", "zoneId": "z1"}), &[]);
    check(json!({"sub": "x", "agentId": "a1"}), &[]);
    for odd in [json!(["a2"]), json!(-7), json!(1e30), json!(false), json!({})] {
        check(json!({"sub": "a1", "role": "agent", "agentId": odd}), &[]);
    }
    check(json!({"sub": "a1", "role": "agent", "agentId": null}), &["agent:a1", "agent:a1:orders"]);
}

#[test]
fn a_store_sees_its_orders() {
    check(json!({"sub": "x", "role": "store", "storeId": "s1"}), &["store:s1:orders"]);
}

#[test]
fn an_id_may_be_a_whole_number() {
    let (policy, classes) = (policy(&[]), classes());
    let room = |key: &str| classes.find_room(key).expect("a room");
    let holder = |id: Value| claims(json!({"sub": "x", "role": "agent", "storeId": id, "zoneId": id, "agentId": id}));
    for (id, key) in [
        (json!(7), "store:7:orders"),
        (json!(7), "zone:7:agents"),
        (json!(7), "agent:7"),
        (json!(u64::MAX), "store:18446744073709551615:orders"),
    ] {
        assert!(policy.rule_allows(&holder(id.clone()), &room(key)), "{id} {key}");
    }
    for (id, key) in [
        (json!(8), "store:7:orders"),
        (json!(7.5), "store:7.5:orders"),
        (json!(7.0), "store:7:orders"),
        (json!(-7), "store:-7:orders"),
        (json!(null), "store:null:orders"),
        (json!([7]), "store:7:orders"),
        (json!(true), "store:true:orders"),
    ] {
        assert!(!policy.rule_allows(&holder(id.clone()), &room(key)), "{id} {key}");
    }
}

#[test]
fn staff_go_everywhere_but_the_admin_dashboard() {
    let all_but_admin = &GUARDED[..12];
    check(json!({"sub": "x", "role": "staff"}), all_but_admin);
    check(json!({"sub": "x", "role": "dispatcher", "zoneId": "z1"}), all_but_admin);
    check(json!({"sub": "x", "role": "admin"}), &GUARDED);
}

#[test]
fn claims_of_another_kind_open_nothing() {
    check(json!({"sub": "x", "role": ["admin"], "storeId": 1}), &[]);
    check(json!({"sub": "x", "role": {"admin": true}, "zoneId": {}, "agentId": []}), &[]);
    check(json!({"sub": "x", "role": "Admin"}), &[]);
}

#[test]
fn a_location_is_reported_by_agents_and_whoever_the_condition_names() {
    let agent = claims(json!({"sub": "x", "role": "agent"}));
    let driver = claims(json!({"sub": "x", "role": "driver"}));
    let defaults = policy(&["admin"]);
    assert!(defaults.may_locate(&agent) && !defaults.may_locate(&driver));
    let locate = Expression::compile("claims.role in ['agent', 'driver']", RuleSubject::User).expect("it compiles");
    let own = Policy::new(Vec::new(), locate, Vec::new());
    assert!(own.may_locate(&agent) && own.may_locate(&driver));
    assert!(!own.may_locate(&claims(json!({"sub": "x"}))), "a claim that is missing denies");
}

#[test]
fn a_condition_sees_claims_room_key_and_time() {
    let who = json!({
        "sub": "u", "stores": ["5", "7"], "ids": [7], "until": 1001, "from": 999.5, "https://x.com/role": "boss",
        "stages": [{"store": "7", "of": {"level": 3}}],
    });
    for text in [
        "room.storeId in claims.stores",
        "claims.ids.exists(i, id(i) == room.storeId)",
        "key == 'store:7:orders'",
        "now < claims.until && now >= claims.from",
        "claims['https://x.com/role'] == 'boss' && 'https://x.com/role' in claims",
        "claims.stages.filter(s, s.store == room.storeId).all(s, s.of.level > 2)",
        "!has(claims.banned)",
        "size(claims.stores) == 2 && claims.sub.startsWith('u')",
        "claims.all(name, size(name) < 30)",
        "agent == null && !staff",
    ] {
        assert_eq!(judge(text, who.clone()), Ok(true), "{text}");
    }
}

#[test]
fn what_cannot_be_judged_is_no_yes() {
    for text in [
        "claims.missing",
        "claims.missing == 'x'",
        "claims.sub",
        "claims.sub < 5",
        "1 / 0 == 1",
        "9223372036854775807 + 1 > 0",
        "[1][5] == 1",
        "int(claims.sub) == 1",
        "claims.sub.x == 1",
        "claims.sub.all(c, true)",
        "claims.missing && claims.missing",
        "false || claims.missing",
        "{'a': 1}[claims.sub] == 1",
        "-claims.sub == 1",
        "!claims.sub",
        "claims.sub ? true : true",
        "claims[room.storeId] == 1",
    ] {
        let judged = judge(text, json!({"sub": "u"}));
        assert!(matches!(judged, Err(EvaluationError::Evaluation(_) | EvaluationError::NoBool)), "{text}: {judged:?}");
    }
}

#[test]
fn claims_that_mean_harm_are_denied_where_a_rule_looks_at_them() {
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let long: Vec<u8> = vec![1; 257];
    let wide: Value = (0..257).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>().into();
    let many = json!(vec![vec![1; 250]; 5]);
    for evil in [deep, json!(long), wide, many, json!("x".repeat(7000))] {
        let who = json!({"sub": "u", "evil": evil});
        for text in ["has(claims.evil)", "claims.evil != 1", "claims.all(name, true)", "!('evil' in claims)"] {
            let judged = judge(text, who.clone());
            assert!(matches!(judged, Err(EvaluationError::TooLarge(_))), "{text}: {judged:?}");
        }
        assert_eq!(judge("claims.sub == 'u'", who), Ok(true), "what no rule names does no harm");
    }
    for odd in [json!(u64::MAX), json!(i64::MIN), json!(1e308), json!(-0.0), json!(""), json!({}), json!([])] {
        let judged = judge("claims.odd == 'x' || claims.odd in [1, 2]", json!({"sub": "u", "odd": odd}));
        assert_eq!(judged, Ok(false), "{odd}");
    }
}

#[test]
fn a_text_that_is_no_condition_says_what_is_wrong() {
    refuses("", "is not CEL");
    refuses("claims.role ==", "is not CEL: line 1");
    refuses("claims.role == 'a' &&\n&& true", "is not CEL: line 2");
    refuses("claim.role == 'a'", "names `claim`");
    refuses("room.orderId == '7'", "names `room.orderId`");
    refuses("has(room.orderId)", "names `room.orderId`");
    refuses("claims.role.matches('a*')", "calls `matches`");
    refuses("matches(claims.role, 'a*')", "calls `matches`");
    refuses("claims.x.exists(claims, true)", "calls the variable of a loop `claims`");
    refuses("[1].map(x, y, z, x)", "calls `map`");
    refuses("optional.of(1).hasValue()", "calls `hasValue`");
    refuses("claims.?x == 1", "is not CEL");
    refuses("timestamp('2020-01-01T00:00:00Z') < now", "calls `timestamp`");
    refuses("Foo{a: 1} == 1", "names `Foo`");
    refuses(&format!("now{} > 1", " + 1".repeat(20)), "is nested more than 20 deep");
    refuses("'yes'", "is no condition");
    refuses("5", "is no condition");
    refuses(&format!("true || '{}' == ''", "x".repeat(3000)), "is longer than 2048 bytes");
}

/// Whatever the stack of the caller: these are as deep as 2 KiB can be.
#[test]
fn a_text_that_is_nested_deeply_is_refused_and_nothing_else_happens() {
    let wrapped = |open: &str, close: &str, count: usize| format!("{}true{}", open.repeat(count), close.repeat(count));
    for text in [
        wrapped("(", ")", 900),
        wrapped("[", "]", 900),
        wrapped("!(", ")", 600),
        wrapped("true || (", ")", 180),
        format!("claims{}", ".a".repeat(1000)),
        format!("claims{}", "[0]".repeat(600)),
        format!("now{} == 1", "+1".repeat(900)),
        format!("true{}", "?true:true".repeat(180)),
        format!("claims.a{} == 1", ".size()".repeat(250)),
    ] {
        let error = Expression::compile(&text, RuleSubject::User).expect_err(&text);
        assert!(matches!(error, ExpressionError::TooDeep | ExpressionError::Syntax { .. }), "{error}: {}", &text[..40]);
    }
}

#[test]
fn a_part_that_a_form_has_twice_cannot_be_named() {
    let form: Form = "pair:{id}:{id}".parse().expect("a form");
    let error = Expression::compile("room.id == claims.sub", RuleSubject::Room(&form)).expect_err("twice");
    assert_eq!(error, ExpressionError::Part("id".to_owned()));
    Expression::compile("key == claims.pair", RuleSubject::Room(&form)).expect("the key is the key");
}

#[test]
fn a_key_called_key_or_now_is_a_part_and_nothing_else() {
    let form: Form = "safe:{key}:{now}".parse().expect("a form");
    let text = "room.key == 'a' && room.now == 'b' && key == 'safe:a:b' && now == 5";
    let expression = Expression::compile(text, RuleSubject::Room(&form)).expect("it compiles");
    let claims = claims(json!({"sub": "u"}));
    let facts = PolicyInput { claims: &claims, room: Some((&form, "safe:a:b")), staff: false, now_s: 5 };
    assert_eq!(expression.judge_facts(&facts), Ok(true));
}

/// The deepest texts that compile, judged with half of the stack that a worker has.
#[test]
fn what_compiles_is_judged_on_a_small_stack() {
    let shapes: [fn(usize) -> String; 6] = [
        |n| format!("{}1{} != 1", "[".repeat(n), "]".repeat(n)),
        |n| format!("claims.a{} == 1 || true", "[0]".repeat(n)),
        |n| format!("{}true{}", "now < 1 ? false : (".repeat(n), ")".repeat(n)),
        |n| format!("now{} > 1", " + 1".repeat(n)),
        |n| format!("{}{{}}{} != 1", "{'a': ".repeat(n), "}".repeat(n)),
        |n| format!("claims.a.all(x, claims.a.all(y, {}x == y{})) || true", "!(".repeat(n), ")".repeat(n)),
    ];
    let claims = claims(json!({"sub": "u", "a": [[[[1]]]]}));
    let facts = PolicyInput { claims: &claims, room: None, staff: false, now_s: 5 };
    for shape in shapes {
        let compiled =
            (1..64).rev().find_map(|n| Expression::compile(&shape(n), RuleSubject::User).ok().map(|e| (n, e)));
        let (depth, expression) = compiled.expect("something of that shape compiles");
        assert!(depth >= 3, "{depth}: {}", shape(1));
        let judged = std::thread::scope(|scope| {
            let judge = std::thread::Builder::new()
                .stack_size(1024 * 1024)
                .spawn_scoped(scope, || expression.judge_facts(&facts));
            judge.expect("a thread").join().expect("no panic")
        });
        assert_eq!(judged, Ok(true), "{}", shape(1));
    }
}
