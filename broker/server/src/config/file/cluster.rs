//! The `cluster` block.

use broker_core::auth::settings::{PermissionSettings, SubjectRules};
use broker_proto::conf::Entry;

use super::{
    super::{WriteTimeout, draft::ClusterDraft, url},
    Reader,
    permissions::Queues,
    tls::Place,
    value::{Bare, Keys},
};

pub(in super::super) const KEYS: Keys = &[
    &["name"],
    &["listen"],
    &["host", "net"],
    &["port"],
    &["authorization"],
    &["routes"],
    &["tls"],
    &["advertise", "cluster_advertise"],
    &["no_advertise"],
    &["connect_retries"],
    &["connect_backoff"],
    &["permissions"],
    &["pool_size"],
    &["accounts"],
    &["compression"],
    &["ping_interval"],
    &["ping_max"],
    &["write_deadline"],
    &["write_timeout"],
];

impl Reader<'_> {
    pub(super) fn cluster(&mut self, entry: &Entry) {
        let mut cluster = ClusterDraft {
            at: Some(entry.at.clone()),
            ..self.draft.cluster.clone()
        };
        let Some(map) = self.map(entry) else { return };
        // Rules of this block win over those in its authorization, which are an older way to write it.
        let mut rules = None;
        for entry in map.entries() {
            match self.field(entry, KEYS) {
                Some("permissions") => rules = self.cluster_permissions(entry),
                Some("authorization") => self.cluster_authorization(&mut cluster, entry),
                Some(key) => self.cluster_key(&mut cluster, key, entry),
                None => {}
            }
        }
        if let Some((import, export)) = rules {
            (cluster.import, cluster.export) = (import, export);
        }
        self.draft.cluster = cluster;
    }

    fn cluster_key(&mut self, cluster: &mut ClusterDraft, key: &str, entry: &Entry) {
        match key {
            "name" => cluster.name = self.text(entry).unwrap_or_default(),
            "listen" => {
                if let Some((host, port)) = self.address(entry) {
                    cluster.bind.host = host.or(cluster.bind.host.take());
                    cluster.bind.port = port;
                }
            }
            "host" => cluster.bind.host = self.text(entry),
            "port" => cluster.bind.port = self.number(entry).unwrap_or_default(),
            "routes" => self.routes(cluster, entry),
            "tls" => cluster.tls = self.tls(entry, Place::Routes),
            "advertise" => cluster.advertise = self.text(entry).unwrap_or_default(),
            "no_advertise" => cluster.no_advertise = self.switch(entry).unwrap_or_default(),
            "connect_retries" => cluster.connect_retries = self.number(entry).unwrap_or_default(),
            "connect_backoff" => cluster.connect_backoff = self.switch(entry).unwrap_or_default(),
            "ping_interval" => {
                if let Some(nanos) = self.nanos(entry, Bare::SecondsOfOld) {
                    cluster.ping_interval_nanos = nanos;
                }
            }
            "ping_max" => {
                if let Some(count) = self.number(entry) {
                    cluster.ping_max = count;
                }
            }
            "write_deadline" => {
                cluster.write_deadline_nanos =
                    self.nanos(entry, Bare::SecondsOfOld).unwrap_or_default();
            }
            "write_timeout" => cluster.write_timeout = self.route_write_timeout(entry),
            "pool_size" => {
                if self.number(entry).is_some_and(|size| size != -1) {
                    self.warning(
                        entry,
                        "pool_size has no effect: there is one route to each server",
                    );
                }
            }
            "accounts" => {
                if !self.words(entry).is_empty() {
                    let text = "accounts has no effect: all accounts share the route to a server";
                    self.warning(entry, text);
                }
            }
            _ => self.compression(entry),
        }
    }

    fn route_write_timeout(&mut self, entry: &Entry) -> WriteTimeout {
        let Some(value) = self.text(entry) else {
            return WriteTimeout::Default;
        };
        value.parse().unwrap_or_else(|text| {
            self.problem(&entry.value, text);
            WriteTimeout::Default
        })
    }

    /// Accepting means that a peer may ask for it and be refused, which is what happens.
    fn compression(&mut self, entry: &Entry) {
        let mode = match entry.value.as_map() {
            Some(map) => map.find("mode"),
            None => Some(&entry.value),
        };
        let mode = mode.and_then(|mode| match mode.as_bool() {
            Some(true) => Some("on"),
            Some(false) => Some("off"),
            None => mode.as_str(),
        });
        match mode.map(str::to_ascii_lowercase).as_deref() {
            Some("off" | "disabled" | "false" | "accept" | "not supported" | "not_supported") => {}
            Some(
                "on" | "enabled" | "true" | "auto" | "s2_auto" | "fast" | "s2_fast" | "better"
                | "s2_better" | "best" | "s2_best" | "s2_uncompressed",
            ) => {
                let text = "compression has no effect: other servers are served without it";
                self.warning(entry, text);
            }
            _ => self.problem(&entry.value, "unsupported compression mode"),
        }
    }

    fn routes(&mut self, cluster: &mut ClusterDraft, entry: &Entry) {
        cluster.routes.clear();
        for (text, at) in self.words(entry) {
            match url::route(&text) {
                Ok(route) if cluster.routes.contains(&route) => {
                    let text = format!("{at}: Duplicate route entry detected");
                    self.report.warnings.push(text);
                }
                Ok(route) => cluster.routes.push(route),
                Err(error) => self.problem_at(&at, &error.to_string()),
            }
        }
    }

    fn cluster_authorization(&mut self, cluster: &mut ClusterDraft, entry: &Entry) {
        let block = self.authorization(entry, Queues::Refused);
        // Wording of `server/opts.go`.
        if block.users.is_some() {
            let text = "Cluster authorization does not allow multiple users";
            self.problem_at(&entry.at, text);
        }
        if !block.token.is_empty() {
            self.problem_at(&entry.at, "Cluster authorization does not support tokens");
        }
        if block.user.is_empty() != block.password.is_empty() {
            let text = "cluster authorization needs both user and password";
            self.problem_at(&entry.at, text);
        } else if block.user.is_empty() && block.permissions.is_none() && block.timeout_nanos == 0 {
            let text = "cluster authorization without user and password lets every server in";
            self.problem_at(&entry.at, text);
        }
        cluster.user = block.user;
        cluster.password = block.password;
        cluster.auth_timeout_nanos = block.timeout_nanos;
        if let Some(permissions) = block.permissions {
            let text = "setting \"permissions\" within cluster authorization block is deprecated";
            self.warning(entry, text);
            (cluster.import, cluster.export) = self.route_rules(entry, permissions);
        }
    }

    fn cluster_permissions(&mut self, entry: &Entry) -> Option<(SubjectRules, SubjectRules)> {
        let permissions = self.permissions(entry, Queues::Refused)?;
        Some(self.route_rules(entry, permissions))
    }

    fn route_rules(
        &mut self,
        entry: &Entry,
        permissions: PermissionSettings,
    ) -> (SubjectRules, SubjectRules) {
        if permissions.responses.is_some() {
            let text = "Cluster permissions do not support dynamic responses";
            self.problem_at(&entry.at, text);
        }
        (permissions.publish, permissions.subscribe)
    }
}
