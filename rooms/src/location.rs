//! Locations: where an agent is, with its client's own numerals (nomor: "Presence and Location Updates").

/// Bytes of one numeral: longer ones add no precision, and every receiver gets a copy.
const NUMERAL_BYTES: usize = 64;

/// The type of a location event.
pub const LOCATION_UPDATED: &str = "agent.location_updated";

/// A position on earth as its client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Degrees, -90 to 90.
    lat: String,
    /// Degrees, -180 to 180.
    lng: String,
    /// Metres, 0 or more.
    accuracy: Option<String>,
}

/// A text is not a JSON number, or is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a location has a lat within 90, a lng within 180, and an accuracy of 0 or more if any")]
pub struct InvalidLocation;

impl Location {
    /// Validates the JSON texts of the numbers.
    ///
    /// # Errors
    /// When one of them is not a number or out of range.
    pub fn new(lat: &str, lng: &str, accuracy: Option<&str>) -> Result<Self, InvalidLocation> {
        Ok(Self {
            lat: numeral(lat, -90.0, 90.0)?,
            lng: numeral(lng, -180.0, 180.0)?,
            accuracy: accuracy.map(|text| numeral(text, 0.0, f64::MAX)).transpose()?,
        })
    }

    /// The JSON of the event, for an agent with a valid id, which needs no escapes.
    #[must_use]
    pub fn event_json(&self, agent: &str) -> String {
        let Self { lat, lng, accuracy } = self;
        let accuracy = accuracy.as_ref().map_or_else(String::new, |metres| format!(r#","accuracy":{metres}"#));
        format!(
            r#"{{"type":"{LOCATION_UPDATED}","priority":"HIGH","payload":{{"agentId":"{agent}","location":{{"lat":{lat},"lng":{lng}{accuracy}}}}}}}"#
        )
    }
}

fn numeral(text: &str, least: f64, most: f64) -> Result<String, InvalidLocation> {
    let number = if text.len() <= NUMERAL_BYTES { serde_json::from_str::<f64>(text).ok() } else { None };
    number.filter(|n| (least..=most).contains(n)).map(|_| text.to_owned()).ok_or(InvalidLocation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Draft;

    #[test]
    fn numerals_stay_as_they_were_written() {
        for (lat, lng, accuracy) in [
            ("12.0", "77.590000", Some("0")),
            ("-90", "180", Some("1e3")),
            ("90.0", "-180.00", None),
            ("-0", "0e0", Some("12.970000000000000001")),
        ] {
            let event = Location::new(lat, lng, accuracy).expect("a location").event_json("a1");
            let draft = Draft::parse(event.as_bytes()).expect("an event");
            let rest = accuracy.map_or_else(String::new, |metres| format!(r#","accuracy":{metres}"#));
            let expected = format!(r#"{{"agentId":"a1","location":{{"lat":{lat},"lng":{lng}{rest}}}}}"#);
            assert_eq!(draft.payload.get(), expected);
            assert_eq!((draft.kind.as_str(), draft.priority.as_str()), (LOCATION_UPDATED, "HIGH"));
        }
    }

    #[test]
    fn what_is_no_number_or_out_of_range_is_no_location() {
        let long = format!("0.{}", "1".repeat(NUMERAL_BYTES));
        for bad in ["", "null", "\"1\"", "true", "[]", "{}", "NaN", "1e999", "-1e999", "1,2", "01", "+1", "1 2", &long]
        {
            assert_eq!(Location::new(bad, "1", None), Err(InvalidLocation), "{bad}");
            assert_eq!(Location::new("1", bad, None), Err(InvalidLocation), "{bad}");
            assert_eq!(Location::new("1", "1", Some(bad)), Err(InvalidLocation), "{bad}");
        }
        for (lat, lng, accuracy) in
            [("90.0001", "1", "1"), ("-91", "1", "1"), ("1", "180.1", "1"), ("1", "-181", "1"), ("1", "1", "-0.1")]
        {
            assert_eq!(Location::new(lat, lng, Some(accuracy)), Err(InvalidLocation), "{lat} {lng} {accuracy}");
        }
    }
}
