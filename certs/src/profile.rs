//! The three kinds of leaf, as the hand-made set-ups had them.

use std::{fmt, str::FromStr};

use rcgen::ExtendedKeyUsagePurpose;

/// What a leaf may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// A server that clients connect to: server authentication.
    Server,
    /// A server in the mesh: it accepts routes and opens them, so both.
    Route,
    /// An application: client authentication.
    Client,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Server, Self::Route, Self::Client];

    /// `server`, `route` or `client`: on the command line, in requests, in file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Route => "route",
            Self::Client => "client",
        }
    }

    /// Whether a leaf of this profile is shown to connecting peers, who check a name in it.
    pub fn is_server(self) -> bool {
        matches!(self, Self::Server | Self::Route)
    }

    /// Whether a leaf of this profile can be shown when connecting.
    pub fn is_client(self) -> bool {
        matches!(self, Self::Route | Self::Client)
    }

    pub(crate) fn extended_key_usages(self) -> Vec<ExtendedKeyUsagePurpose> {
        let mut usages = Vec::with_capacity(2);
        if self.is_server() {
            usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if self.is_client() {
            usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        usages
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no profile.
#[derive(Debug, thiserror::Error)]
#[error("unknown certificate profile {0:?}: expected server, route or client")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(word: &str) -> Result<Self, UnknownProfile> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.as_str() == word)
            .ok_or_else(|| UnknownProfile(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_others_are_refused_by_name() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse::<Profile>().unwrap(), profile);
        }
        let error = "peer".parse::<Profile>().unwrap_err().to_string();
        assert!(error.contains("\"peer\""), "{error}");
    }
}
