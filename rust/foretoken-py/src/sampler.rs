//! The sampler's parameters for Python.

use std::collections::BTreeMap;

use foretoken_core::error::Error;
use foretoken_core::sampler::{Sampler, Settings};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::arrays::{integers, type_name};
use crate::door::{raise, to_python};

/// One list of the fields makes the class with its getters, what reads keywords, and what pickle writes.
macro_rules! fields {
    ($($name:ident: $type:ty),* $(,)?) => {
        /// Parameters of a choice, checked once a generation; the fields are those of `foretoken.Sampler`.
        #[pyclass(frozen, name = "Sampler", module = "foretoken._rust")]
        pub struct PySampler {
            sampler: Sampler,
            $(#[pyo3(get)] $name: $type,)*
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];

        impl From<Sampler> for PySampler {
            fn from(sampler: Sampler) -> Self {
                Self { $($name: sampler.$name.clone(),)* sampler }
            }
        }

        fn set(settings: &mut Settings, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
            match name {
                $(stringify!($name) => settings.$name = Read::read(stringify!($name), value, settings.vocab_size)?,)*
                _ => {
                    let message = format!("Sampler has no parameter {name}: see foretoken.Sampler");
                    return Err(raise(value.py(), "ArgumentTypeError", message));
                }
            }
            Ok(())
        }
    };
}

fields! {
    vocab_size: usize,
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    typical_p: f64,
    top_n_sigma: f64,
    xtc_probability: f64,
    xtc_threshold: f64,
    dry_multiplier: f64,
    dry_base: f64,
    dry_allowed_length: usize,
    dry_range: usize,
    dry_breakers: Vec<u32>,
    mirostat_tau: f64,
    mirostat_eta: f64,
    repetition_penalty: f64,
    presence_penalty: f64,
    frequency_penalty: f64,
    logit_bias: BTreeMap<u32, f64>,
    bad_words: Vec<Vec<u32>>,
    allowed_tokens: Option<Vec<u32>>,
    end_tokens: Vec<u32>,
    min_tokens: usize,
}

#[pymethods]
impl PySampler {
    #[new]
    #[pyo3(
        signature = (*, vocab_size, **fields),
        text_signature = "(*, vocab_size, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0, \
            top_n_sigma=0.0, xtc_probability=0.0, xtc_threshold=0.1, dry_multiplier=0.0, dry_base=1.75, \
            dry_allowed_length=2, dry_range=0, dry_breakers=(), mirostat_tau=0.0, mirostat_eta=0.1, \
            repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0, logit_bias={}, bad_words=(), \
            allowed_tokens=None, end_tokens=(), min_tokens=0)"
    )]
    fn new(vocab_size: &Bound<'_, PyAny>, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut settings = Settings::new(usize::read("vocab_size", vocab_size, 0)?);
        for (name, value) in fields.into_iter().flatten() {
            set(&mut settings, &name.extract::<String>()?, &value)?;
        }
        Sampler::new(settings).map(Self::from).map_err(|error| to_python(vocab_size.py(), &error))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Arguments<'py>)> {
        let (py, fields) = (slf.py(), PyDict::new(slf.py()));
        for name in NAMES {
            fields.set_item(name, slf.getattr(*name)?)?;
        }
        // This is how pickle calls a class that takes keywords.
        let new = py.import("copyreg")?.getattr("__newobj_ex__")?;
        Ok((new, (slf.get_type(), PyTuple::empty(py), fields)))
    }
}

type Arguments<'py> = (Bound<'py, PyType>, Bound<'py, PyTuple>, Bound<'py, PyDict>);

/// The sampler that a kernel was given.
pub fn borrow<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<&'a Sampler> {
    value.cast::<PySampler>().map(|sampler| &sampler.get().sampler).map_err(|_| {
        let message = format!("sampler is a {}: give what compile_sampler returns", type_name(value));
        raise(value.py(), "ArgumentTypeError", message)
    })
}

/// How the value of a parameter is read, and what is said when it cannot be.
trait Read: Sized {
    fn read(name: &'static str, value: &Bound<'_, PyAny>, vocabulary: usize) -> PyResult<Self>;
}

fn refuse(name: &str, value: &Bound<'_, PyAny>, error: &PyErr, expected: &str) -> PyErr {
    let py = value.py();
    if error.is_instance_of::<PyTypeError>(py) {
        raise(py, "ArgumentTypeError", format!("{name} is a {}: give {expected}", type_name(value)))
    } else if error.is_instance_of::<PyOverflowError>(py) {
        raise(py, "InvalidArgument", format!("{name} is {value}: give {expected}"))
    } else {
        error.clone_ref(py)
    }
}

impl Read for f64 {
    fn read(name: &'static str, value: &Bound<'_, PyAny>, _: usize) -> PyResult<Self> {
        value.extract().map_err(|error| refuse(name, value, &error, "a number"))
    }
}

impl Read for usize {
    fn read(name: &'static str, value: &Bound<'_, PyAny>, _: usize) -> PyResult<Self> {
        value.extract().map_err(|error| refuse(name, value, &error, "an integer that is not negative"))
    }
}

impl Read for Vec<u32> {
    fn read(name: &'static str, value: &Bound<'_, PyAny>, vocabulary: usize) -> PyResult<Self> {
        let ids = integers(name, value)?.into_iter();
        ids.map(|token| {
            let outside = Error::Token { name, token, vocabulary };
            u32::try_from(token).map_err(|_| to_python(value.py(), &outside))
        })
        .collect()
    }
}

impl Read for Option<Vec<u32>> {
    fn read(name: &'static str, value: &Bound<'_, PyAny>, vocabulary: usize) -> PyResult<Self> {
        if value.is_none() { Ok(None) } else { Vec::read(name, value, vocabulary).map(Some) }
    }
}

impl Read for Vec<Vec<u32>> {
    fn read(name: &'static str, value: &Bound<'_, PyAny>, vocabulary: usize) -> PyResult<Self> {
        let words = value.try_iter().map_err(|error| refuse(name, value, &error, "sequences of token ids"))?;
        words.map(|word| Vec::read(name, &word?, vocabulary)).collect()
    }
}

impl Read for BTreeMap<u32, f64> {
    fn read(name: &'static str, value: &Bound<'_, PyAny>, _: usize) -> PyResult<Self> {
        value.extract().map_err(|error| refuse(name, value, &error, "a dict from token ids to numbers"))
    }
}

/// Adds this file's names to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySampler>()
}
