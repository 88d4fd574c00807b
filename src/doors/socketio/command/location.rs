//! Parses locations. The numerals are kept as the client wrote them, so that a receiver gets the same text.

use std::collections::HashMap;

use hallway_rooms::close::Refusal;
use hallway_rooms::location::Location;
use serde_json::value::RawValue;

/// Reads `lat`, `lng` and `accuracy`. Other members, such as an `agentId`, are ignored.
pub(super) fn parse_location(argument: Option<&RawValue>) -> Result<Location, Refusal> {
    let argument = argument.and_then(|raw| serde_json::from_str::<HashMap<String, &RawValue>>(raw.get()).ok());
    let argument = argument.ok_or(Refusal::InvalidPayload)?;
    let numeral = |name| argument.get(name).map(|raw| raw.get());
    let (lat, lng) = numeral("lat").zip(numeral("lng")).ok_or(Refusal::InvalidPayload)?;
    // Raw JSON: an absent value that a client spells out is the text `null` here.
    let accuracy = numeral("accuracy").filter(|text| *text != "null");
    Location::new(lat, lng, accuracy).map_err(|_| Refusal::InvalidPayload)
}
