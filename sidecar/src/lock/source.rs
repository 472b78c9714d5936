//! Where the broker's database is: `streaming.sql.source` of the file that the broker's `-sc` names.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

use broker_proto::conf::{self, Map, ParseError, Resolver, Source};

/// Why there is no source. None shows a value of the file.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("reading {path} failed", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the store configuration is not understood")]
    Parse(#[from] ParseError),
    #[error("{path} has no text under streaming.sql.{key}", path = path.display())]
    Missing { path: PathBuf, key: &'static str },
    #[error("{path}: streaming.sql.driver is not postgres", path = path.display())]
    Driver { path: PathBuf },
}

/// A connection string of the Go driver, in either form. Holds a password: `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct SqlSource(String);

impl SqlSource {
    /// Reads the store configuration at `path`.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn read(path: &Path) -> Result<Self, SourceError> {
        let text = fs::read_to_string(path).map_err(|source| SourceError::Read {
            path: path.to_owned(),
            source,
        })?;
        let file = conf::parse(&path.to_string_lossy(), &text, &Files)?;
        let block = |map: &Map, name| map.find(name).and_then(|value| value.as_map()).cloned();
        let sql = block(&file, "streaming")
            .and_then(|streaming| {
                block(&streaming, "sql").or_else(|| block(&streaming, "sql_options"))
            })
            .unwrap_or_default();
        let text = |key| {
            let value = sql.find(key).and_then(|value| value.as_str());
            value.ok_or(SourceError::Missing {
                path: path.to_owned(),
                key,
            })
        };
        if text("driver")? != "postgres" {
            return Err(SourceError::Driver {
                path: path.to_owned(),
            });
        }
        Ok(Self(text("source")?.to_owned()))
    }

    /// The text, for connecting; never for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SqlSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlSource").finish_non_exhaustive()
    }
}

/// Includes are files next to the one that includes them; variables are those of the process.
struct Files;

impl Resolver for Files {
    fn include(&self, from: &str, path: &str) -> Result<Source, String> {
        let folder = Path::new(from).parent().unwrap_or(Path::new("."));
        let path = folder.join(path);
        let path = fs::canonicalize(&path).map_err(|error| error.to_string())?;
        let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
        Ok(Source {
            name: path.to_string_lossy().into_owned(),
            text,
        })
    }

    fn variable(&self, name: &str) -> Option<String> {
        env::var(name).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SqlSource, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.conf");
        fs::write(&path, text).unwrap();
        SqlSource::read(&path).map_err(|error| certs::causes::one_line(&error))
    }

    #[test]
    fn source_is_found_in_the_usual_file() {
        let url = "postgres://user:pass@host/db?sslmode=disable";
        let text = format!(
            "streaming: {{\n sql: {{\n driver: \"postgres\"\n source: \"{url}\"\n no_caching: true\n }}\n}}\n"
        );
        let source = read(&text).unwrap();
        assert_eq!(source.expose(), url);
        assert!(!format!("{source:?}").contains("pass"));
    }

    #[test]
    fn mistakes_are_named_without_values() {
        for (text, expected) in [
            (
                "streaming { sql { driver: mysql, source: \"u:secret@h\" } }",
                "not postgres",
            ),
            (
                "streaming { sql { driver: postgres } }",
                "streaming.sql.source",
            ),
            ("store: sql", "streaming.sql.driver"),
            ("streaming { sql { source: \"secret", "not understood"),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                error.contains(expected) && !error.contains("secret@"),
                "{error}"
            );
        }
        assert!(SqlSource::read(Path::new("/nowhere")).is_err());
    }
}
