//! Room classes and event types, which only the file can set: `[rooms."order:{orderId}"]`, `[types."order.created"]`.

use std::{collections::BTreeMap, time::Duration};

use hallway_rooms::{
    class::Delivery,
    event::EventType,
    form::{BUILT_IN, Form},
};

use super::{
    Mode,
    error::Complaint,
    report::Report,
    rule::{CONDITION, between, each, member},
    scope::Scope,
    section::{Section, section},
    value::{toml_string, words},
};
use crate::auth::policy::{Expression, Subject, defaults};

/// The longest a class's history may live; as long as `history.ttl` may be.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

words! { Delivery: "durable, latest or ephemeral" {
    "durable" => Durable,
    "latest" => Latest,
    "ephemeral" => Ephemeral,
} }

/// What the operator says of one class of rooms. What is `None` is as the built-in class or the sections have it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoomClassConfig {
    /// Who may join, read the history and stay; the form's parts are those of its name here.
    pub join: Option<Expression>,
    /// Whether the authorizer is asked about whomever the condition lets in.
    pub authorizer: bool,
    /// How much history such a room keeps.
    pub history: RoomHistory,
    /// How its events are delivered.
    pub delivery: Option<Delivery>,
    /// Whether members are told of each other. Without effect in this version.
    pub presence: bool,
}

section! {
    /// How much history a class of rooms keeps, where that differs from the section history.
    pub struct RoomHistory for mode {
        /// Most events kept, 0 to 100000; 0 keeps none.
        max_events: Option<u64> = None, check each(between(0, 100_000));
        /// How long it lives after the newest event, 1s to 3650d.
        ttl: Option<Duration> = None, check each(between(Duration::from_secs(1), LONGEST));
    }
}

/// What the operator says of one type of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeConfig {
    /// How events of the type are delivered, whatever the room's class says.
    pub delivery: Delivery,
    /// The member of the payload that tells apart what each `latest` event is the newest of.
    pub key: Option<String>,
}

/// The types that are not delivered as their room's class says: of an agent's locations only the newest matters.
pub(super) fn default_types() -> BTreeMap<String, TypeConfig> {
    let location = TypeConfig { delivery: Delivery::Latest, key: Some("agentId".to_owned()) };
    BTreeMap::from([("agent.location_updated".to_owned(), location)])
}

/// Reads `[rooms]`: by form, every class the file names.
pub(super) fn read_rooms(scope: &mut Scope<'_>, mode: Mode) -> BTreeMap<String, RoomClassConfig> {
    let mut seen = Vec::new();
    let mut rooms = BTreeMap::new();
    for name in scope.names() {
        match unseen_form(&name, &seen) {
            Ok(form) => {
                rooms.insert(name.clone(), read_room(&mut scope.child(&name), &form, mode));
                seen.push(form);
            }
            Err(complaint) => scope.refuse_name(&name, complaint),
        }
    }
    rooms
}

fn unseen_form(name: &str, seen: &[Form]) -> Result<Form, Complaint> {
    let remedy = "join with ':' words such as `order` (a-z, 0-9, _, -) and parameters such as `{orderId}`";
    let form: Form = name.parse().map_err(|_| Complaint::new("is not a room form", remedy))?;
    match seen.iter().find(|other| form.same_shape(other)) {
        Some(other) => Err(Complaint::new(format!("is the same form as \"{other}\""), "keep one of the two")),
        None => Ok(form),
    }
}

fn read_room(scope: &mut Scope<'_>, form: &Form, mode: Mode) -> RoomClassConfig {
    scope.refuse_unknown(&["join", "authorizer", "history", "delivery", "presence"]);
    RoomClassConfig {
        join: read_join(scope, form),
        authorizer: scope.key("authorizer", false, &[]),
        history: RoomHistory::read(&mut scope.child("history"), mode),
        delivery: scope.key("delivery", None, &[]),
        presence: scope.key("presence", false, &[]),
    }
}

fn read_join(scope: &mut Scope<'_>, form: &Form) -> Option<Expression> {
    let compile = |text: &str| Expression::compile(text, Subject::Room(form));
    let compiles =
        each(|text: &String| compile(text).map(|_| ()).map_err(|error| Complaint::new(error.to_string(), CONDITION)));
    let text: Option<String> = scope.key("join", None, &[&compiles]);
    text.and_then(|text| compile(&text).ok())
}

/// Checks that no class lets anybody into rooms that another one guards. A class has the rule of one that covers it; one
/// that takes only some rooms away from another has none that was meant for them.
pub(super) fn check(rooms: &BTreeMap<String, RoomClassConfig>, report: &mut Report) {
    for (name, _) in rooms.iter().filter(|(_, class)| class.join.is_none()) {
        let Ok(form) = name.parse::<Form>() else { continue };
        let built_in = BUILT_IN.iter().map(|name| (*name, None));
        let others = built_in.chain(rooms.iter().map(|(name, class)| (name.as_str(), Some(class))));
        let mut guarded = others.filter(|(other, class)| {
            let Ok(other) = other.parse::<Form>() else { return false };
            let rule = class.is_some_and(|class| class.join.is_some() || class.authorizer);
            (rule || defaults::guard(&other)) && shares(&form, &other)
        });
        if let Some((other, _)) = guarded.next().filter(|_| !form.is_built_in()) {
            let problem = format!("has rooms that \"{other}\" has, too, and does not say who may join them");
            report.blame(&format!("rooms.{}", toml_string(name)), Complaint::new(problem, "add `join = \"…\"`"));
        }
    }
}

/// Whether some rooms of `form` would else be of the other class, and others not.
fn shares(form: &Form, other: &Form) -> bool {
    form.meets(other) && form.precedes(other) && !form.covers(other) && !other.covers(form)
}

/// Reads `[types]` over the defaults.
pub(super) fn read_types(scope: &mut Scope<'_>) -> BTreeMap<String, TypeConfig> {
    let mut types = default_types();
    for name in scope.names() {
        if name.parse::<EventType>().is_err() {
            let remedy = "use 1 to 128 letters, digits and `_ . : -`, and no reserved name";
            scope.refuse_name(&name, Complaint::new("is not an event type", remedy));
            continue;
        }
        let mut inner = scope.child(&name);
        inner.refuse_unknown(&["delivery", "key"]);
        let known = types.get(&name).and_then(|known| known.key.clone());
        let key = inner.key("key", known, &[&each(member)]);
        if let Some(delivery) = inner.key("delivery", types.get(&name).map(|known| known.delivery), &[]) {
            types.insert(name, TypeConfig { delivery, key });
        }
    }
    types
}
