//! Why one tensor cannot be merged.

/// Why one tensor cannot be merged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MethodError {
    /// No method of that name.
    #[error("merge method {name:?} is not known; known are {known}")]
    UnknownMethod {
        /// The name asked for.
        name: String,
        /// Every name that would do, comma separated.
        known: String,
    },
    /// A parameter that the method needs and that has no default.
    #[error("{method} of {tensor}: parameter {parameter} is missing for {place}; set it there or for all")]
    Missing {
        /// The method.
        method: &'static str,
        /// The tensor.
        tensor: String,
        /// The parameter.
        parameter: &'static str,
        /// A source's name, or "the merge".
        place: String,
    },
    /// A parameter that the method does not have in that place.
    #[error("{method} of {tensor}: {place} has no parameter {parameter:?}; it takes {known}")]
    UnknownParameter {
        /// The method.
        method: &'static str,
        /// The tensor.
        tensor: String,
        /// The name that is not known.
        parameter: String,
        /// A source's name, or "the merge".
        place: String,
        /// What could stand there, comma separated.
        known: String,
    },
    /// A parameter's value is of another kind or out of range.
    #[error("parameter {parameter}: {value} will not do; it takes {takes}")]
    Value {
        /// The parameter.
        parameter: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        takes: &'static str,
    },
    /// Too few or too many models, or no base where one is needed.
    #[error("{method} of {tensor} needs {needs}; given are {given}")]
    Inputs {
        /// The method.
        method: &'static str,
        /// The tensor.
        tensor: String,
        /// What the method needs.
        needs: String,
        /// What was given.
        given: String,
    },
    /// An input holds another number of elements than the tensor's shape.
    #[error("tensor {tensor}: {input} holds {found} elements, its shape {shape:?} has {expected}")]
    Elements {
        /// The tensor.
        tensor: String,
        /// The input's name.
        input: String,
        /// The tensor's shape.
        shape: Vec<usize>,
        /// The shape's elements.
        expected: usize,
        /// The input's elements.
        found: usize,
    },
    /// The stored type is not one of numbers that can be merged.
    #[error("stored as {dtype}; merging reads F32, F16 and BF16: convert the model")]
    Dtype {
        /// The stored type.
        dtype: &'static str,
    },
}

/// Result of merging one tensor.
pub type Result<T> = std::result::Result<T, MethodError>;
