//! Locations as clients report them: in their own numerals, so that a receiver gets what the client wrote.

use std::collections::HashMap;

use hallway_rooms::close::Refusal;
use hallway_rooms::location::Location;
use serde_json::value::RawValue;

/// Whatever else the argument holds, an `agentId` for instance, is not looked at.
pub(super) fn read(argument: Option<&RawValue>) -> Result<Location, Refusal> {
    let argument = argument.and_then(|raw| serde_json::from_str::<HashMap<String, &RawValue>>(raw.get()).ok());
    let argument = argument.ok_or(Refusal::InvalidPayload)?;
    let numeral = |name| argument.get(name).map(|raw| raw.get());
    let (lat, lng) = numeral("lat").zip(numeral("lng")).ok_or(Refusal::InvalidPayload)?;
    let accuracy = numeral("accuracy").filter(|text| *text != "null");
    Location::new(lat, lng, accuracy).map_err(|_| Refusal::InvalidPayload)
}
