//! The body of a request as conditions see it.
//!
//! Only a body that the API server surely reads in the same way is looked at: one JSON object without a field that is
//! there twice (Go merges such fields, others take the last). A JSON patch, protobuf, YAML and CBOR are not read; a
//! condition that asks for them is in doubt. A merge or apply patch is the part of an object that it is.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt,
};
use cel::common::value::Val;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::request_info::RequestInfo;

/// The longest body that conditions look at, in bytes: etcd stores no larger object by default.
const OBJECT_BYTES_MAX: usize = 1_572_864;

/// The most values that it may have: some ten thousand are the largest real objects.
const OBJECT_VALUES_MAX: usize = 200_000;

/// The lists of containers in a pod.
const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// A body that was read.
#[derive(Debug)]
pub(super) struct Parsed {
    object: Box<dyn Val>,
    pod_specs: Box<dyn Val>,
    containers: Box<dyn Val>,
}

impl Parsed {
    /// Reads a body. The error says why conditions cannot look at it, and holds nothing of it.
    pub(super) fn read(bytes: &[u8], info: &RequestInfo) -> Result<Self, String> {
        let empty = CelMap::from(HashMap::<CelMapKey<'static>, Box<dyn Val>>::new());
        let object: Box<dyn Val> = if bytes.is_empty() {
            Box::new(empty)
        } else {
            parse(bytes)?
        };
        let root = object
            .downcast_ref::<CelMap>()
            .ok_or("the body is no JSON object (a JSON patch is none)")?;
        let pod_specs = pod_specs(root, info)?;
        let containers = containers(&pod_specs)?;
        Ok(Self {
            pod_specs: Box::new(CelList::from(pod_specs)),
            containers: Box::new(CelList::from(containers)),
            object,
        })
    }

    pub(super) fn get(&self, variable: &str) -> Option<&dyn Val> {
        match variable {
            "object" => Some(self.object.as_ref()),
            "podSpecs" => Some(self.pod_specs.as_ref()),
            "containers" => Some(self.containers.as_ref()),
            _ => None,
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Box<dyn Val>, String> {
    if bytes.len() > OBJECT_BYTES_MAX {
        return Err(format!(
            "the body is longer than the {OBJECT_BYTES_MAX} bytes that conditions look at"
        ));
    }
    let left = Cell::new(OBJECT_VALUES_MAX);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Tree(&left)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|_| {
        "the body is not JSON that can be read in one way only (it may be protobuf, YAML, or have a field twice)"
            .to_owned()
    })
}

/// The pod in a body: of the object itself, or of the template in it.
fn pod_specs(root: &CelMap<'static>, info: &RequestInfo) -> Result<Vec<Box<dyn Val>>, String> {
    let path: &[&str] = match (info.api_group(), info.resource()) {
        ("", "pods") => &["spec"],
        ("", "podtemplates") => &["template", "spec"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template", "spec"],
        _ => &["spec", "template", "spec"],
    };
    let (mut place, mut spec) = (root, None);
    for field in path {
        let value = place.inner().get(&CelMapKey::from(*field));
        let Some(value) = value.filter(|value| value.downcast_ref::<CelNull>().is_none()) else {
            return Ok(Vec::new());
        };
        place = value
            .downcast_ref::<CelMap<'static>>()
            .ok_or_else(|| format!("\"{field}\" on the way to the pod is no map"))?;
        spec = Some(value);
    }
    Ok(spec.map(|spec| spec.clone_as_boxed()).into_iter().collect())
}

fn containers(pod_specs: &[Box<dyn Val>]) -> Result<Vec<Box<dyn Val>>, String> {
    let mut containers = Vec::new();
    let maps = pod_specs.iter().filter_map(|s| s.downcast_ref::<CelMap>());
    for spec in maps {
        for field in CONTAINER_LISTS {
            let Some(value) = spec.inner().get(&CelMapKey::from(field)) else {
                continue;
            };
            if value.downcast_ref::<CelNull>().is_some() {
                continue;
            }
            let list = value
                .downcast_ref::<CelList>()
                .ok_or_else(|| format!("\"{field}\" of the pod is no list"))?;
            containers.extend(list.inner().iter().map(|item| item.clone_as_boxed()));
        }
    }
    Ok(containers)
}

/// Reads any JSON value, counting down to the most there may be.
struct Tree<'n>(&'n Cell<usize>);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Box<dyn Val>;

    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        let left = self.0.get();
        self.0.set(
            left.checked_sub(1)
                .ok_or_else(|| D::Error::custom("size"))?,
        );
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Box<dyn Val>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Box::new(CelNull))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Box::new(CelBool::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Box::new(CelInt::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Box::new(CelInt::from(value)),
            Err(_) => Box::new(CelUInt::from(value)),
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Box::new(CelDouble::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Box::new(CelString::from(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items: Vec<Box<dyn Val>> = Vec::new();
        while let Some(item) = seq.next_element_seed(Tree(self.0))? {
            items.push(item);
        }
        Ok(Box::new(CelList::from(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: HashMap<CelMapKey<'static>, Box<dyn Val>> = HashMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Tree(self.0))?;
            if fields.insert(CelMapKey::from(key), value).is_some() {
                return Err(A::Error::custom("a field is there twice"));
            }
        }
        Ok(Box::new(CelMap::from(fields)))
    }
}
