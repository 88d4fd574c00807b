//! Who may join what: the default rules, behind the interface that configured ones fill.

use std::fmt;

use hallway_rooms::class::Classes;
use hallway_rooms::key::Room;

use crate::auth::claims::Claims;

/// Decides whether somebody may enter a room or read its history. An error inside denies.
pub trait Policy: Send + Sync + fmt::Debug {
    /// Whether `claims` may join `room`.
    fn allows(&self, claims: &Claims, room: &Room, classes: &Classes) -> bool;
}

/// Everybody may join everything: dev mode.
#[derive(Clone, Copy, Debug)]
pub struct Open;

impl Policy for Open {
    fn allows(&self, _: &Claims, _: &Room, _: &Classes) -> bool {
        true
    }
}

/// The default rules of the design: one's own rooms, those of one's role, and the public ones.
#[derive(Clone, Debug)]
pub struct DefaultRules {
    staff_roles: Vec<String>,
}

impl DefaultRules {
    /// `staff_roles`: the roles that may go nearly everywhere.
    #[must_use]
    pub fn new(staff_roles: Vec<String>) -> Self {
        Self { staff_roles }
    }

    fn is_staff(&self, claims: &Claims) -> bool {
        claims.role().is_some_and(|role| self.staff_roles.iter().any(|staff| staff == role))
    }
}

impl Policy for DefaultRules {
    fn allows(&self, claims: &Claims, room: &Room, classes: &Classes) -> bool {
        let form = &classes.of(room).form;
        let id = form.parts(room.key()).next().map_or("", |(_, id)| id);
        let shape: Vec<&str> = room.key().split(':').collect();
        match shape.as_slice() {
            ["user", _] => claims.subject == id || self.is_staff(claims),
            ["agent", _] | ["agent", _, "orders"] => claims.agent().as_deref() == Some(id) || self.is_staff(claims),
            ["zone", _, "agents"] => {
                let in_zone = claims.agent().is_some() && claims.id("zoneId").as_deref() == Some(id);
                in_zone || self.is_staff(claims)
            }
            ["store", _, "orders"] => claims.id("storeId").as_deref() == Some(id) || self.is_staff(claims),
            ["orders", "active"] | ["agents" | "stores", "all"] => self.is_staff(claims),
            ["dashboard", "admin"] => claims.role() == Some("admin"),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hallway_rooms::class::Retention;
    use serde_json::json;
    use std::time::Duration;

    fn claims(all: serde_json::Value) -> Claims {
        let all = all.as_object().expect("claims are an object").clone();
        let subject = all["sub"].as_str().expect("a subject").to_owned();
        Claims { subject, expires_ms: 0, issued_ms: None, token_id: None, all }
    }

    #[track_caller]
    fn check(who: &Claims, allowed: &[&str]) {
        let classes =
            Classes::built_in(Retention { max_events: 1, ttl: Duration::from_secs(1) }, Duration::from_secs(1));
        let rules = DefaultRules::new(["admin", "staff", "dispatcher"].map(String::from).to_vec());
        let keys = [
            "user:u1",
            "user:u2",
            "order:o1",
            "store:s1",
            "store:s1:orders",
            "store:s2:orders",
            "zone:z1",
            "zone:z1:agents",
            "zone:z2:agents",
            "agent:a1",
            "agent:a1:orders",
            "agent:a2",
            "product:p1",
            "variant:v1",
            "orders:active",
            "agents:all",
            "stores:all",
            "store:s1:zone:z1",
            "dashboard:admin",
        ];
        for key in keys {
            let room = classes.room(key).expect("a room");
            let public = ["order:o1", "store:s1", "zone:z1", "product:p1", "variant:v1", "store:s1:zone:z1"];
            let expected = public.contains(&key) || allowed.contains(&key) || allowed == ["*"];
            assert_eq!(rules.allows(who, &room, &classes), expected, "{key} for {:?}", who.all);
        }
    }

    #[test]
    fn a_customer_enters_their_own_and_the_public_rooms() {
        check(&claims(json!({"sub": "u1"})), &["user:u1"]);
    }

    #[test]
    fn an_agent_enters_their_own_rooms_and_their_zone() {
        let agent = json!({"sub": "u1", "role": "agent", "agentId": "a1", "zoneId": "z1"});
        check(&claims(agent), &["user:u1", "agent:a1", "agent:a1:orders", "zone:z1:agents"]);
        check(&claims(json!({"sub": "a1", "role": "agent"})), &["agent:a1", "agent:a1:orders"]);
        check(&claims(json!({"sub": "x", "zoneId": "z1"})), &[]);
    }

    #[test]
    fn a_store_sees_its_orders() {
        check(&claims(json!({"sub": "x", "role": "store", "storeId": "s1"})), &["store:s1:orders"]);
    }

    #[test]
    fn an_id_may_be_a_whole_number() {
        let classes =
            Classes::built_in(Retention { max_events: 1, ttl: Duration::from_secs(1) }, Duration::from_secs(1));
        let rules = DefaultRules::new(Vec::new());
        let room = classes.room("store:7:orders").expect("a room");
        assert!(rules.allows(&claims(json!({"sub": "x", "storeId": 7})), &room, &classes));
        for other in [json!(8), json!(7.5), json!(-7), json!(null), json!([7]), json!(true)] {
            assert!(!rules.allows(&claims(json!({"sub": "x", "storeId": other})), &room, &classes));
        }
    }

    #[test]
    fn staff_go_everywhere_but_the_admin_dashboard() {
        let all_but_admin = [
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
        ];
        check(&claims(json!({"sub": "x", "role": "staff"})), &all_but_admin);
        check(&claims(json!({"sub": "x", "role": "admin"})), &["*"]);
    }

    #[test]
    fn claims_of_another_kind_open_nothing() {
        check(&claims(json!({"sub": "x", "role": ["admin"], "storeId": 1})), &[]);
    }
}
