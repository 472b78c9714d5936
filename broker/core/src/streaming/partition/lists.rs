//! Lists of channels as servers tell them, and whether two have something in common.

use broker_proto::streaming::CtrlMsg;
use bytes::Bytes;
use prost::Message as _;

use super::{PARTITIONING, PartitionConfig};
use crate::streaming::StartError;

/// Names with their lengths before them, in as many messages as are needed.
pub(super) fn encode(
    config: &PartitionConfig,
    channels: &[String],
) -> Result<Vec<Bytes>, StartError> {
    let message = |data: Vec<u8>| CtrlMsg {
        msg_type: PARTITIONING,
        server_id: config.server_id.clone(),
        data: data.into(),
        ref_id: String::new(),
    };
    // The tag of the data and its length, at most.
    let overhead = message(Vec::new()).encoded_len() + 8;
    let mut lists = Vec::new();
    let mut data = Vec::new();
    for channel in channels {
        let length = u16::try_from(channel.len()).map_err(|_| StartError::ChannelTooLong)?;
        let needed = 2 + channel.len();
        if overhead + needed > config.max_payload {
            return Err(StartError::ChannelTooLong);
        }
        if overhead + data.len() + needed > config.max_payload {
            lists.push(message(std::mem::take(&mut data)).encode_to_vec().into());
        }
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(channel.as_bytes());
    }
    lists.push(message(data).encode_to_vec().into());
    Ok(lists)
}

pub(super) fn decode(mut data: &[u8]) -> Option<Vec<String>> {
    let mut channels = Vec::new();
    while !data.is_empty() {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let (name, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        channels.push(String::from_utf8(name.to_owned()).ok()?);
        data = rest;
    }
    Some(channels)
}

/// Whether a channel could be one of both.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (None, _) | (_, None) => return false,
            (Some(">"), _) | (_, Some(">")) => return true,
            (Some("*"), _) | (_, Some("*")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_both_are_found_literally_and_by_wildcards() {
        for (one, other, expected) in [
            ("foo", "foo", true),
            ("foo", "bar", false),
            ("foo.*", "foo.bar", true),
            ("foo.>", "foo.bar.baz", true),
            ("foo.>", "foo", false),
            ("*.bar", "foo.*", true),
            ("foo.*", "bar.*", false),
            ("foo.*", "foo.*.bar", false),
            (">", "foo", true),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
