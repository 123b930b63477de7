//! Stand-in: flat objects.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Number(f64),
    String(String),
    Object(Map<String, Value>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map<K: Ord, V>(BTreeMap<K, V>);

impl<V> Map<String, V> {
    pub fn new() -> Self {
        Map(BTreeMap::new())
    }

    pub fn insert(&mut self, key: String, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    pub fn get(&self, key: &str) -> Option<&V> {
        self.0.get(key)
    }
}

#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

pub fn from_value<T: serde::Deserialize>(value: Value) -> Result<T, Error> {
    let Value::Object(map) = value else { return Err(Error("expected an object".into())) };
    T::from_numbers(&|key| match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(Some(*number)),
        Some(other) => Err(format!("{key}: expected a number, got {other:?}")),
    })
    .map_err(Error)
}
