//! JSON objects read as leniently as the reference reads them.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::Value;

/// The members of an object in the order in which they were written, keys in lower case. Members that
/// are `null` are left out, and `null` itself is an object without members. Bytes that are no UTF-8 are
/// taken as U+FFFD, each by itself. `None`: neither an object nor `null`.
pub(crate) fn members(json: &[u8]) -> Option<Vec<(String, Value)>> {
    let mut text = String::with_capacity(json.len());
    for chunk in json.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    let members: Option<Members> = serde_json::from_str(&text).ok()?;
    Some(members.unwrap_or_default().0)
}

/// As lenient as the reference: `null` is as good as absent, keys match in any case, and the last of
/// several counts. `None`: not an object, or a value of the wrong type.
pub(crate) fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let present = members(json)?.into_iter().collect();
    T::deserialize(Value::Object(present)).ok()
}

/// A map would lose the order, which decides between keys that differ in case only.
#[derive(Default)]
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            if !value.is_null() {
                members.push((key.to_ascii_lowercase(), value));
            }
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_and_lose_nulls_and_case() {
        let read = members(br#"{"b":1,"A":null,"B":2}"#).unwrap();
        assert_eq!(read, [("b".into(), 1.into()), ("b".into(), 2.into())]);
    }

    #[test]
    fn null_has_no_members_and_other_values_are_refused() {
        assert_eq!(members(b" null "), Some(Vec::new()));
        for bad in ["", "[]", "1", "{", "{} {}", "\"a\""] {
            assert_eq!(members(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn each_byte_that_is_no_utf8_becomes_a_replacement_character() {
        let read = members(b"{\"a\":\"x\xe2\x82y\"}").unwrap();
        assert_eq!(read, [("a".into(), "x\u{fffd}\u{fffd}y".into())]);
        assert_eq!(members(b"{\xff}"), None);
    }
}
