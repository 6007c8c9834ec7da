//! Edits to JSON and to text, made of the fuzzer's bytes.

use arbitrary::Arbitrary;
use serde_json::{Map, Value};

/// One edit to a JSON document: which of its values, counted in order, and what becomes of it.
#[derive(Arbitrary, Debug)]
pub struct Edit<'a> {
    at: u16,
    change: Change<'a>,
}

#[derive(Arbitrary, Debug)]
enum Change<'a> {
    Set(Leaf<'a>),
    /// To the number that stands there.
    Add(i8),
    Remove,
    Rename(Word<'a>),
    Insert(Word<'a>, Leaf<'a>),
    /// The value that stands at another place.
    Copy(u16),
    /// The value in so many arrays; the parser takes 128.
    Nest(u8),
}

#[derive(Arbitrary, Debug)]
enum Word<'a> {
    /// One of the target's own words.
    Known(u8),
    New(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Leaf<'a> {
    Null,
    Bool(bool),
    Small(u8),
    /// As it stands in the input, where the fuzzer can put what it saw a value compared with.
    Int(u32),
    /// 2^exponent + off, or its negative: where integer types end.
    Power {
        exponent: u8,
        off: i8,
        negative: bool,
    },
    Float(f64),
    /// 10^exponent: where float types end.
    Ten(i16),
    Word(Word<'a>),
    Array(Vec<u8>),
    Words(Vec<Word<'a>>),
    Object,
}

impl Word<'_> {
    fn get(&self, words: &[&str]) -> String {
        match self {
            Word::Known(i) => words[usize::from(*i) % words.len()].to_owned(),
            Word::New(word) => (*word).to_owned(),
        }
    }
}

impl Leaf<'_> {
    fn get(&self, words: &[&str]) -> Value {
        match self {
            Leaf::Null => Value::Null,
            Leaf::Bool(b) => (*b).into(),
            Leaf::Small(n) => (*n).into(),
            Leaf::Int(n) => (*n).into(),
            Leaf::Power { exponent, off, negative } => {
                let n = (1i128 << (exponent % 65)) + i128::from(*off);
                let n = if *negative { -n } else { n };
                match (u64::try_from(n), i64::try_from(n)) {
                    (Ok(n), _) => n.into(),
                    (_, Ok(n)) => n.into(),
                    _ => Value::from(n as f64),
                }
            }
            Leaf::Float(x) => (*x).into(), // null where it is not finite
            Leaf::Ten(exponent) => 10f64.powi((exponent % 320).into()).into(),
            Leaf::Word(word) => word.get(words).into(),
            Leaf::Array(numbers) => numbers.clone().into(),
            Leaf::Words(list) => list.iter().map(|word| word.get(words)).collect::<Vec<_>>().into(),
            Leaf::Object => Value::Object(Map::new()),
        }
    }
}

/// The pointers of every value in `json`, the whole first.
fn pointers(json: &Value, here: String, into: &mut Vec<String>) {
    into.push(here.clone());
    match json {
        Value::Object(fields) => {
            for (key, value) in fields {
                pointers(value, format!("{here}/{}", key.replace('~', "~0").replace('/', "~1")), into);
            }
        }
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                pointers(value, format!("{here}/{i}"), into);
            }
        }
        _ => {}
    }
}

/// More edits at once find nothing that these do not, and take long.
const MOST: usize = 12;

/// Makes `edits` to `json`, one after another; `words` are those that mean something in it.
pub fn edit(json: &mut Value, edits: &[Edit], words: &[&str]) {
    for Edit { at, change } in edits.iter().take(MOST) {
        let mut places = Vec::new();
        pointers(json, String::new(), &mut places);
        let place = &places[usize::from(*at) % places.len()];
        match change {
            Change::Remove => drop(take(json, place)),
            Change::Rename(word) => {
                if let Some(value) = take(json, place)
                    && let Some((parent, _)) = place.rsplit_once('/')
                {
                    insert(json.pointer_mut(parent), word.get(words), value);
                }
            }
            Change::Insert(word, leaf) => insert(json.pointer_mut(place), word.get(words), leaf.get(words)),
            Change::Copy(from) => {
                let value = json.pointer(&places[usize::from(*from) % places.len()]).cloned();
                if let (Some(target), Some(value)) = (json.pointer_mut(place), value) {
                    *target = value;
                }
            }
            Change::Nest(depth) => {
                if let Some(target) = json.pointer_mut(place) {
                    for _ in 0..depth % 140 {
                        *target = Value::Array(vec![target.take()]);
                    }
                }
            }
            Change::Set(leaf) => {
                if let Some(target) = json.pointer_mut(place) {
                    *target = leaf.get(words);
                }
            }
            Change::Add(more) => {
                if let Some(target) = json.pointer_mut(place) {
                    if let Some(n) = target.as_i64() {
                        *target = n.wrapping_add((*more).into()).into();
                    } else if let Some(x) = target.as_f64() {
                        *target = (x + f64::from(*more)).into();
                    }
                }
            }
        }
    }
}

fn take(json: &mut Value, place: &str) -> Option<Value> {
    let (parent, key) = place.rsplit_once('/')?;
    match json.pointer_mut(parent)? {
        Value::Object(fields) => fields.remove(&key.replace("~1", "/").replace("~0", "~")),
        Value::Array(items) => Some(items.remove(key.parse().ok()?)),
        _ => None,
    }
}

fn insert(into: Option<&mut Value>, key: String, value: Value) {
    match into {
        Some(Value::Object(fields)) => drop(fields.insert(key, value)),
        Some(Value::Array(items)) => items.push(value),
        _ => {}
    }
}

/// One edit to text or bytes: cut so many there, and put these.
#[derive(Arbitrary, Debug)]
pub struct Splice<'a> {
    at: u16,
    cut: u8,
    put: &'a [u8],
}

impl Splice<'_> {
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        let at = usize::from(self.at) % (bytes.len() + 1);
        let end = (at + usize::from(self.cut)).min(bytes.len());
        bytes.splice(at..end, self.put.iter().copied());
    }
}
