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
    report::LoadReport,
    rule::{CONDITION, between, each, member},
    scope::ConfigTable,
    section::{Section, section},
    value::{toml_string, words},
};
use crate::auth::policy::{Expression, RuleSubject, defaults};

/// The longest `ttl` of a class's history; the same as that of `history.ttl`.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

words! { Delivery: "durable, latest or ephemeral" {
    "durable" => Durable,
    "latest" => Latest,
    "ephemeral" => Ephemeral,
} }

/// The settings of one room class. `None` leaves a setting to the built-in class or the sections.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoomClassConfig {
    /// The condition for joining, reading the history and staying. The form's parts have the names used here.
    pub join: Option<Expression>,
    /// Whether the authorizer is asked about users that the condition admits.
    pub authorizer: bool,
    /// How much history such a room keeps.
    pub history: RoomHistory,
    /// The delivery of its events.
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

/// The settings of one event type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeConfig {
    /// The delivery of its events, whatever the room's class.
    pub delivery: Delivery,
    /// The payload member that tells apart which `latest` events supersede each other.
    pub key: Option<String>,
}

/// The types with a delivery of their own by default: of an agent's locations only the last one matters.
pub(super) fn default_types() -> BTreeMap<String, TypeConfig> {
    let location = TypeConfig { delivery: Delivery::Latest, key: Some("agentId".to_owned()) };
    BTreeMap::from([("agent.location_updated".to_owned(), location)])
}

/// Reads `[rooms]`: every class that the file names, by form.
pub(super) fn read_rooms(scope: &mut ConfigTable<'_>, mode: Mode) -> BTreeMap<String, RoomClassConfig> {
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
    // Two spellings of one class would each configure it, and the last would win.
    match seen.iter().find(|other| form.same_shape(other)) {
        Some(other) => Err(Complaint::new(format!("is the same form as \"{other}\""), "keep one of the two")),
        None => Ok(form),
    }
}

fn read_room(scope: &mut ConfigTable<'_>, form: &Form, mode: Mode) -> RoomClassConfig {
    scope.refuse_unknown(&["join", "authorizer", "history", "delivery", "presence"]);
    RoomClassConfig {
        join: read_join(scope, form),
        authorizer: scope.key("authorizer", false, &[]),
        history: RoomHistory::read(&mut scope.child("history"), mode),
        delivery: scope.key("delivery", None, &[]),
        presence: scope.key("presence", false, &[]),
    }
}

fn read_join(scope: &mut ConfigTable<'_>, form: &Form) -> Option<Expression> {
    let compile = |text: &str| Expression::compile(text, RuleSubject::Room(form));
    let compiles =
        each(|text: &String| compile(text).map(|_| ()).map_err(|error| Complaint::new(error.to_string(), CONDITION)));
    let text: Option<String> = scope.key("join", None, &[&compiles]);
    // The text was reported above if it does not compile.
    text.and_then(|text| compile(&text).ok())
}

/// Checks that no class admits users to rooms that another one guards. A class inherits the rule of one that covers
/// it. One that takes only some rooms away from another inherits none that was meant for them.
pub(super) fn check_classes(rooms: &BTreeMap<String, RoomClassConfig>, report: &mut LoadReport) {
    for (name, _) in rooms.iter().filter(|(_, class)| class.join.is_none()) {
        let Ok(form) = name.parse::<Form>() else { continue };
        let built_in = BUILT_IN.iter().map(|name| (*name, None));
        let others = built_in.chain(rooms.iter().map(|(name, class)| (name.as_str(), Some(class))));
        let mut guarded = others.filter(|(other, class)| {
            let Ok(other) = other.parse::<Form>() else { return false };
            let rule = class.is_some_and(|class| class.join.is_some() || class.authorizer);
            (rule || defaults::guards_form(&other)) && splits_form(&form, &other)
        });
        // A built-in class has its own default rule.
        if let Some((other, _)) = guarded.next().filter(|_| !form.is_built_in()) {
            let problem = format!("has rooms that \"{other}\" has, too, and does not say who may join them");
            report.reject_value(&format!("rooms.{}", toml_string(name)), Complaint::new(problem, "add `join = \"…\"`"));
        }
    }
}

/// Whether some rooms of `form` would otherwise belong to the other class, and others not.
fn splits_form(form: &Form, other: &Form) -> bool {
    form.overlaps_form(other) && form.precedes(other) && !form.covers(other) && !other.covers(form)
}

/// Reads `[types]` over the defaults.
pub(super) fn read_types(scope: &mut ConfigTable<'_>) -> BTreeMap<String, TypeConfig> {
    let mut types = default_types();
    for name in scope.names() {
        if name.parse::<EventType>().is_err() {
            let remedy = "use 1 to 128 letters, digits and `_ . : -`, and no reserved name";
            scope.refuse_name(&name, Complaint::new("is not an event type", remedy));
            continue;
        }
        let mut inner = scope.child(&name);
        inner.refuse_unknown(&["delivery", "key"]);
        // A built-in type keeps its key when only the delivery is set.
        let known = types.get(&name).and_then(|known| known.key.clone());
        let key = inner.key("key", known, &[&each(member)]);
        if let Some(delivery) = inner.key("delivery", types.get(&name).map(|known| known.delivery), &[]) {
            types.insert(name, TypeConfig { delivery, key });
        }
    }
    types
}
