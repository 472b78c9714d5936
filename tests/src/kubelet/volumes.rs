//! Volumes of a pod as directories, and the variables of its containers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, EnvVar, KeyToPath, Pod, Secret, ServiceAccount,
    ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use super::rewrite::{Names, expand};

/// Files of a volume by their path in it.
type Files = BTreeMap<String, Vec<u8>>;

/// The volumes of one pod.
#[derive(Debug)]
pub(super) struct Volumes {
    dir: PathBuf,
}

impl Volumes {
    /// Makes all of them below `dir`. May be repeated after an error.
    pub(super) async fn make(client: &Client, pod: &Pod, dir: &Path) -> anyhow::Result<Self> {
        let source = Source { client, pod };
        let spec = pod.spec.as_ref().context("a pod without spec")?;
        for volume in spec.volumes.iter().flatten() {
            let place = dir.join(&volume.name);
            fs::create_dir_all(&place).with_context(|| format!("creating {}", place.display()))?;
            if volume.empty_dir.is_none() {
                let files = source.volume(volume).await;
                let files = files.with_context(|| format!("volume {}", volume.name))?;
                swap(&place, &files)?;
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Where a volume is.
    pub(super) fn directory(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Mount paths of a container with their directories, longer paths first.
    pub(super) fn mounts(&self, container: &Container) -> anyhow::Result<Vec<(String, String)>> {
        let mut mounts = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            ensure!(
                mount.sub_path.is_none(),
                "mounts with subPath are not played"
            );
            let path = mount.mount_path.trim_end_matches('/').to_owned();
            mounts.push((path, self.directory(&mount.name).display().to_string()));
        }
        mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Ok(mounts)
    }
}

/// Where the contents of volumes and variables come from.
struct Source<'a> {
    client: &'a Client,
    pod: &'a Pod,
}

impl Source<'_> {
    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }

    async fn volume(&self, volume: &Volume) -> anyhow::Result<Files> {
        if let Some(secret) = &volume.secret {
            let name = secret
                .secret_name
                .as_deref()
                .context("a Secret without name")?;
            return chosen(&self.secret(name).await?, secret.items.as_deref());
        }
        if let Some(map) = &volume.config_map {
            return chosen(&self.config_map(&map.name).await?, map.items.as_deref());
        }
        if let Some(projected) = &volume.projected {
            let mut files = Files::new();
            for projection in projected.sources.iter().flatten() {
                files.extend(self.projection(projection).await?);
            }
            return Ok(files);
        }
        let Some(downward) = &volume.downward_api else {
            bail!("a kind of volume that is not played")
        };
        self.downward(downward.items.as_deref())
    }

    async fn projection(&self, projection: &VolumeProjection) -> anyhow::Result<Files> {
        if let Some(token) = &projection.service_account_token {
            let text = self.token(token).await?;
            return Ok(Files::from([(token.path.clone(), text.into_bytes())]));
        }
        if let Some(map) = &projection.config_map {
            return chosen(&self.config_map(&map.name).await?, map.items.as_deref());
        }
        if let Some(secret) = &projection.secret {
            return chosen(&self.secret(&secret.name).await?, secret.items.as_deref());
        }
        let Some(downward) = &projection.downward_api else {
            bail!("a projection that is not played")
        };
        self.downward(downward.items.as_deref())
    }

    /// A token for the audience asked for, bound to this pod.
    async fn token(&self, projection: &ServiceAccountTokenProjection) -> anyhow::Result<String> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: projection.audience.iter().cloned().collect(),
                expiration_seconds: projection.expiration_seconds,
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(self.pod.name_any()),
                    uid: self.pod.uid(),
                }),
            },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace());
        let spec = self.pod.spec.as_ref();
        let account = spec
            .and_then(|spec| spec.service_account_name.as_deref())
            .unwrap_or("default");
        let granted: TokenRequest = accounts
            .create_subresource("token", account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("a token of {account}"))?;
        Ok(granted
            .status
            .context("a token request without answer")?
            .token)
    }

    async fn secret(&self, name: &str) -> anyhow::Result<Files> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace());
        let secret = secrets
            .get(name)
            .await
            .with_context(|| format!("Secret {name}"))?;
        let data = secret.data.into_iter().flatten();
        Ok(data.map(|(key, value)| (key, value.0)).collect())
    }

    async fn config_map(&self, name: &str) -> anyhow::Result<Files> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace());
        let map = maps
            .get(name)
            .await
            .with_context(|| format!("ConfigMap {name}"))?;
        let text = map
            .data
            .into_iter()
            .flatten()
            .map(|(key, value)| (key, value.into_bytes()));
        let binary = map
            .binary_data
            .into_iter()
            .flatten()
            .map(|(key, value)| (key, value.0));
        Ok(text.chain(binary).collect())
    }

    fn downward(&self, items: Option<&[DownwardAPIVolumeFile]>) -> anyhow::Result<Files> {
        let mut files = Files::new();
        for item in items.unwrap_or_default() {
            let field = item
                .field_ref
                .as_ref()
                .context("only fields of the pod are played")?;
            files.insert(
                item.path.clone(),
                self.field(&field.field_path)?.into_bytes(),
            );
        }
        Ok(files)
    }

    fn field(&self, path: &str) -> anyhow::Result<String> {
        let spec = self.pod.spec.as_ref();
        if let Some((map, key)) = path.split_once("['") {
            let key = key.trim_end_matches("']");
            let map = match map {
                "metadata.labels" => self.pod.labels(),
                "metadata.annotations" => self.pod.annotations(),
                _ => bail!("field {path} is not played"),
            };
            return Ok(map.get(key).cloned().unwrap_or_default());
        }
        Ok(match path {
            "metadata.name" => self.pod.name_any(),
            "metadata.namespace" => self.namespace(),
            "metadata.uid" => self.pod.uid().unwrap_or_default(),
            "spec.nodeName" => spec
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default(),
            "spec.serviceAccountName" => spec
                .and_then(|spec| spec.service_account_name.clone())
                .unwrap_or_default(),
            // There is one network, that of this machine.
            "status.podIP" | "status.hostIP" => "127.0.0.1".to_owned(),
            _ => bail!("field {path} is not played"),
        })
    }

    async fn variable(&self, variable: &EnvVar) -> anyhow::Result<String> {
        let Some(source) = &variable.value_from else {
            return Ok(variable.value.clone().unwrap_or_default());
        };
        if let Some(field) = &source.field_ref {
            return self.field(&field.field_path);
        }
        let (files, key) = if let Some(selector) = &source.secret_key_ref {
            (self.secret(&selector.name).await?, &selector.key)
        } else if let Some(selector) = &source.config_map_key_ref {
            (self.config_map(&selector.name).await?, &selector.key)
        } else {
            bail!("a source of variables that is not played")
        };
        let value = files.get(key).with_context(|| format!("no key {key}"))?;
        String::from_utf8(value.clone()).context("not text")
    }
}

/// The variables of a container, with names as they are outside of it.
pub(super) async fn variables(
    client: &Client,
    pod: &Pod,
    container: &Container,
    names: &Names<'_>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let source = Source { client, pod };
    let mut variables = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        let value = source.variable(variable).await;
        let value = value.with_context(|| format!("variable {}", variable.name))?;
        let value = names.rewrite(&expand(&value, &variables));
        variables.insert(variable.name.clone(), value);
    }
    Ok(variables)
}

/// The files that `items` choose, all of them by their keys without it.
fn chosen(files: &Files, items: Option<&[KeyToPath]>) -> anyhow::Result<Files> {
    let Some(items) = items else {
        return Ok(files.clone());
    };
    let choose = |item: &KeyToPath| {
        let contents = files
            .get(&item.key)
            .with_context(|| format!("no key {}", item.key))?;
        Ok((item.path.clone(), contents.clone()))
    };
    items.iter().map(choose).collect()
}

/// Writes files as the kubelet does: into a new directory that `..data` is then pointed to in one step.
fn swap(place: &Path, files: &Files) -> anyhow::Result<()> {
    let generation = tempfile::Builder::new()
        .prefix("..")
        .tempdir_in(place)?
        .keep();
    for (path, contents) in files {
        let file = generation.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, contents).with_context(|| format!("writing {path}"))?;
        let first = Path::new(path).iter().next().context("an empty path")?;
        if fs::symlink_metadata(place.join(first)).is_err() {
            symlink(Path::new("..data").join(first), place.join(first))?;
        }
    }
    let name = generation
        .file_name()
        .context("a generation without name")?;
    let fresh = place.join("..data_tmp");
    symlink(name, &fresh)?;
    fs::rename(&fresh, place.join("..data")).context("swapping the generation")
}
