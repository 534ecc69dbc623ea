//! Serialization of values as the text in which they are given and printed.

/// Implements the conversions of `#[serde(try_from = "String", into = "String")]` for types with
/// `FromStr<Err = String>` and `Display`.
macro_rules! stored_as_text {
    ($($name:ty),+) => {$(
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> std::result::Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )+};
}
pub(crate) use stored_as_text;
