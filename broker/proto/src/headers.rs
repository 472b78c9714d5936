//! Header blocks that the server makes itself. Those of clients are passed on unread, whatever they
//! hold.

/// The header block of a "no responders" answer, in the form of nats-server from 2.12 on.
#[must_use]
pub fn no_responders(subject: &[u8]) -> Vec<u8> {
    [
        b"NATS/1.0 503\r\nNats-Subject: ".as_slice(),
        subject,
        b"\r\n\r\n",
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_responders_is_thirty_two_bytes_and_the_subject() {
        assert_eq!(
            no_responders(b"nobody"),
            b"NATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n"
        );
        assert_eq!(no_responders(b"nobody").len(), 38);
    }
}
