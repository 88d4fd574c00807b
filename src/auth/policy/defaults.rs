//! The default rules, as CEL texts that an operator could have written.

use hallway_rooms::form::Form;

/// The condition for reporting a location.
pub const UPDATE_LOCATION: &str = "agent != null";

/// By form. Every other class, an operator's own included, is open to any signed-in user.
const RULES: [(&str, &str); 9] = [
    ("user:{userId}", "staff || claims.sub == room.userId"),
    ("store:{storeId}:orders", "staff || has(claims.storeId) && id(claims.storeId) == room.storeId"),
    ("zone:{zoneId}:agents", "staff || agent != null && has(claims.zoneId) && id(claims.zoneId) == room.zoneId"),
    ("agent:{agentId}", "staff || agent == room.agentId"),
    ("agent:{agentId}:orders", "staff || agent == room.agentId"),
    ("orders:active", "staff"),
    ("agents:all", "staff"),
    ("stores:all", "staff"),
    ("dashboard:admin", "has(claims.role) && claims.role == 'admin'"),
];

/// Whether the default rule of a form denies some signed-in users.
#[must_use]
pub fn guards_form(form: &Form) -> bool {
    RULES.iter().filter_map(|(guarded, _)| guarded.parse().ok()).any(|guarded: Form| guarded.same_shape(form))
}

/// The default rule of a class. The form's parts have the names of the built-in form.
#[must_use]
pub(super) fn rule_for(form: &Form) -> &'static str {
    let shown = form.to_string();
    RULES.iter().find(|(form, _)| *form == shown).map_or("true", |(_, rule)| rule)
}
