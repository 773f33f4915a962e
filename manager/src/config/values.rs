//! Values that TOML has no type for. Each is checked while it is read, so that an error has its line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gam_task::tenant::{Limits, Tenant};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracing::level_filters::LevelFilter;

use crate::metrics::Address;

/// The longest path of a socket, in bytes: it is bound with ".new" behind it, and 107 are what an address takes.
const LONGEST_PATH: usize = 103;

/// How many containers of a manager can have series of their own: 4 MiB of text are taken of it, and each has some 1.2 kB.
const MOST_SHOWN: usize = 3000;

/// The longest duration that is taken: a day.
const MAX_DURATION: Duration = Duration::from_secs(86_400);

/// Where metrics are served besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere else than at the group's own socket.
    #[default]
    Group,
    /// Those of the node, at a unix socket with this path.
    Unix(PathBuf),
    /// Those of the node, at a TCP address.
    Tcp(SocketAddr),
    /// Nowhere, not at the group's own socket either.
    Off,
}

impl Listen {
    /// The node's address; none where the node has none.
    #[must_use]
    pub fn node(&self) -> Option<Address> {
        match self {
            Self::Unix(path) => Some(Address::Unix(path.clone())),
            Self::Tcp(address) => Some(Address::Tcp(*address)),
            Self::Group | Self::Off => None,
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text == "off" {
            return Ok(Self::Off);
        }
        let path = text.strip_prefix("unix://").unwrap_or(&text);
        if path.starts_with('/') && !path.contains('\0') && path.len() <= LONGEST_PATH {
            return Ok(Self::Unix(path.into()));
        }
        text.strip_prefix("tcp://").unwrap_or(&text).parse().map(Self::Tcp).map_err(|_| {
            D::Error::invalid_value(
                Unexpected::Str(&text),
                &"an IP address with a port, an absolute path of at most 103 bytes, or \"off\"",
            )
        })
    }
}

impl Serialize for Listen {
    /// As it is read; nothing for the group's own socket, for which there is no word.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Group => to.serialize_none(),
            Self::Unix(path) => to.collect_str(&path.display()),
            Self::Tcp(address) => to.collect_str(&format_args!("tcp://{address}")),
            Self::Off => to.serialize_str("off"),
        }
    }
}

/// A number of at least 1.
pub(super) fn positive<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    match usize::deserialize(from)? {
        0 => Err(D::Error::invalid_value(Unexpected::Unsigned(0), &"a number of at least 1")),
        number => Ok(number),
    }
}

/// How many containers have series of their own: more than the text that is taken of a manager could hold are none.
pub(super) fn shown<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    match usize::deserialize(from)? {
        number @ 1..=MOST_SHOWN => Ok(number),
        number => Err(D::Error::invalid_value(
            Unexpected::Unsigned(u64::try_from(number).unwrap_or(u64::MAX)),
            &"a number from 1 to 3000",
        )),
    }
}

/// Limits by the name of a tenant.
pub(super) fn tenants<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Limits>, D::Error> {
    let limits = BTreeMap::<String, Limits>::deserialize(from)?;
    match limits.keys().find(|name| !Tenant::is_name(name)) {
        Some(name) => Err(D::Error::invalid_value(
            Unexpected::Str(name),
            &"the name of a tenant, NAMESPACE or NAMESPACE/NAMESPACE",
        )),
        None => Ok(limits),
    }
}

/// A level of logging.
pub(super) fn level<'de, D: Deserializer<'de>>(from: D) -> Result<LevelFilter, D::Error> {
    let text = String::deserialize(from)?;
    match text.as_str() {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(D::Error::unknown_variant(&text, &["error", "warn", "info", "debug", "trace"])),
    }
}

/// Writes a level as it is read.
pub(super) fn write_level<S: Serializer>(level: &LevelFilter, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(level)
}

/// Writes a duration as it is read.
pub(super) fn write_duration<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    match time.subsec_millis() {
        0 => to.collect_str(&format_args!("{}s", time.as_secs())),
        _ => to.collect_str(&format_args!("{}ms", time.as_millis())),
    }
}

/// A duration: a number of seconds, or text with units.
pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    from.deserialize_any(DurationVisitor)
}

/// Takes either form of a duration.
struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds, or text such as \"10s\" or \"1m30s\", of at most a day")
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
        u64::try_from(seconds)
            .ok()
            .map(Duration::from_secs)
            .filter(|duration| *duration <= MAX_DURATION)
            .ok_or_else(|| E::invalid_value(Unexpected::Signed(seconds), &self))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|duration| *duration <= MAX_DURATION)
            .ok_or_else(|| E::invalid_value(Unexpected::Float(seconds), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text)
            .filter(|duration| *duration <= MAX_DURATION)
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Adds up whole numbers that each have a unit: h, m, s or ms.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let number: u64 = digits.parse().ok()?;
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let part = match unit {
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        };
        sum = sum.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}
