//! What texts, numbers and bodies look like, as the OpenAPI document says it: names for what several operations take.
//!
//! Nothing here checks anything: it says what is checked elsewhere. JSON Schema counts characters where the broker counts bytes, so that a
//! long text of other than ASCII characters may fit a schema and be too long all the same; it is answered with 422.

use bongsu_protocol::limits::{CONTENT_TYPE_BYTES_MAX, HEADERS_MAX, MESSAGE_ID_BYTES_MAX, TOPIC_BYTES_MAX};
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder};
use utoipa::openapi::{
    KnownFormat, Object, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
};
use utoipa::{PartialSchema, ToSchema};

use crate::number::Whole;
use crate::page::{After, Limit};
use crate::time::Timestamp;

/// How connections are carried, as the parameter `transport` takes it.
pub const TRANSPORTS: [&str; 12] = [
    "websocket-json",
    "websocket-binary",
    "websocket-stomp",
    "tcp-stomp",
    "event-stream",
    "json-stream",
    "sockjs-websocket",
    "sockjs-xhr-streaming",
    "sockjs-xhr-polling",
    "sockjs-eventsource",
    "sockjs-htmlfile",
    "sockjs-jsonp-polling",
];

macro_rules! texts {
    ($($name:ident: $min:literal to $max:expr, $pattern:expr, $description:literal;)*) => {
        $(
            #[doc = $description]
            #[derive(Debug, Clone, Copy)]
            pub(crate) struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    text($min, $max, $pattern, $description).into()
                }
            }

            impl ToSchema for $name {}
        )*

        /// Every named schema of this module, for the components of the document: references of parameters are not collected.
        pub(crate) fn shared() -> Vec<(String, RefOr<Schema>)> {
            vec![
                $(named::<$name>(),)*
                named::<Address>(),
                named::<After>(),
                named::<Limit>(),
                named::<Policy>(),
                named::<Timestamp>(),
                named::<TransportName>(),
                named::<Whole>(),
            ]
        }
    };
}

texts! {
    TopicName: 1 to Some(TOPIC_BYTES_MAX), r"^[^/+#\x00-\x1f\x7f-\x9f]+(/[^/+#\x00-\x1f\x7f-\x9f]+){0,31}$",
        "A topic: 1 to 255 bytes of UTF-8, at most 32 levels, none of them empty, without `+`, `#` and control characters.";
    FilterText: 1 to Some(TOPIC_BYTES_MAX),
        r"^(#|(\+|[^/+#\x00-\x1f\x7f-\x9f]+)(/(\+|[^/+#\x00-\x1f\x7f-\x9f]+)){0,30}(/(#|\+|[^/+#\x00-\x1f\x7f-\x9f]+))?)$",
        "A topic filter: as a topic, with `+` for one level, and a last `#` for the rest. At most 255 bytes.";
    Prefix: 0 to Some(TOPIC_BYTES_MAX), r"^[^\x00-\x1f\x7f-\x9f]*$", "What topics begin with: at most 255 bytes.";
    Name: 1 to Some(64), r"^[A-Za-z0-9._-]+$", "Letters, digits, `-`, `_` and `.`.";
    Line: 0 to None::<usize>, r"^[^\x00-\x1f\x7f-\x9f]*$", "Text without control characters.";
    Word: 1 to None::<usize>, r"^[^\x00-\x1f\x7f-\x9f]+$", "Text without control characters, and not none.";
    Subject: 1 to Some(256), r"^[^\x00-\x1f\x7f-\x9f]+$", "Whom tokens name so: at most 256 bytes.";
    VersionText: 3 to Some(41), r"^(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})$", "A version: epoch and offset.";
    Tag: 1 to Some(256), r#"^("[0-9]{1,16}-[0-9]{1,16}"|\*)$"#, "The `ETag` that you have seen, or `*`.";
    MessageId: 1 to Some(MESSAGE_ID_BYTES_MAX), r"^[^\x00-\x1f\x7f-\x9f]+$", "A message's id: 1 to 128 bytes without control characters.";
    NewId: 0 to Some(MESSAGE_ID_BYTES_MAX), r"^[^\x00-\x1f\x7f-\x9f]*$", "A message's id: at most 128 bytes without control characters; an empty one is none.";
    IdempotencyKey: 1 to Some(MESSAGE_ID_BYTES_MAX), r"^[!#-~]([ !#-~]*[!#-~])?$", "A message's id, in the characters that a header takes.";
    MediaType: 0 to Some(CONTENT_TYPE_BYTES_MAX), r"^[ -~]*$", "A media type, such as `text/plain`.";
    Base64: 0 to None::<usize>, r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$",
        "Bytes in base64, with its padding.";
}

/// The address of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address;

impl PartialSchema for Address {
    fn schema() -> RefOr<Schema> {
        let format = |format| {
            ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(format)))
        };
        let any = AnyOfBuilder::new().item(format(KnownFormat::Ipv4)).item(format(KnownFormat::Ipv6));
        any.description(Some("An address of IPv4 or IPv6.")).into()
    }
}

impl ToSchema for Address {}

/// One of [`TRANSPORTS`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransportName;

impl PartialSchema for TransportName {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(TRANSPORTS)).into()
    }
}

impl ToSchema for TransportName {}

/// A policy as somebody wants it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy;

impl PartialSchema for Policy {
    fn schema() -> RefOr<Schema> {
        policy()
            .required("name")
            .description(Some("Its `name`, its `filter`, and what else an entry of `[[topics]]` may say."))
            .into()
    }
}

impl ToSchema for Policy {}

/// A policy whose name the path says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedPolicy;

impl PartialSchema for NamedPolicy {
    fn schema() -> RefOr<Schema> {
        policy().description(Some("A policy; `name` may be left out.")).into()
    }
}

impl ToSchema for NamedPolicy {}

fn policy() -> ObjectBuilder {
    ObjectBuilder::new()
        .property("name", of::<Name>())
        .property("filter", of::<FilterText>())
        .required("filter")
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
}

/// The headers of a message.
pub(crate) fn headers() -> Object {
    ObjectBuilder::new()
        .description(Some("Its headers."))
        .max_properties(Some(HEADERS_MAX))
        .property_names(Some(text(1, None, r"^[^\x00-\x1f\x7f-\x9f]+$", "A header's name.").build()))
        .additional_properties(Some(text(0, None, r"^[^\x00-\x1f\x7f-\x9f]*$", "A header's value.")))
        .build()
}

/// An object of these members and no others; those that are required come first.
pub(crate) fn shape<'a>(
    title: &str,
    required: impl IntoIterator<Item = (&'a str, RefOr<Schema>)>,
    optional: impl IntoIterator<Item = (&'a str, RefOr<Schema>)>,
) -> Object {
    let mut object = ObjectBuilder::new()
        .title(Some(title))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    for (name, schema) in required {
        object = object.property(name, schema).required(name);
    }
    for (name, schema) in optional {
        object = object.property(name, schema);
    }
    object.build()
}

/// One of several shapes.
pub(crate) fn one_of(description: &str, shapes: impl IntoIterator<Item = Object>) -> RefOr<Schema> {
    let mut one_of = OneOfBuilder::new().description(Some(description));
    for shape in shapes {
        one_of = one_of.item(shape);
    }
    one_of.into()
}

/// A reference to a named schema.
pub(crate) fn of<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

/// The same, or `null`, which says as much as leaving it out.
pub(crate) fn or_null<T: ToSchema>() -> RefOr<Schema> {
    OneOfBuilder::new().item(null_object()).item(of::<T>()).into()
}

/// Nothing but `null`, which says as much as leaving it out.
pub(crate) fn null() -> RefOr<Schema> {
    null_object().into()
}

fn null_object() -> Object {
    ObjectBuilder::new().schema_type(Type::Null).build()
}

fn named<T: ToSchema>() -> (String, RefOr<Schema>) {
    (T::name().into_owned(), T::schema())
}

fn text(min: usize, max: Option<usize>, pattern: &str, description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .min_length((min > 0).then_some(min))
        .max_length(max)
        .pattern(Some(pattern))
}
