//! A route with the role that it needs: nobody gets to a handler but through this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{FromRequestParts, Request};
use axum::handler::Handler;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::request::Parts;
use utoipa::__dev::SchemaReferences;
use utoipa::Path;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::{RefOr, Schema};

use crate::actor::Actor;
use crate::audit::{Audit, Change, Record};
use crate::error::Error;
use crate::gatekeeper::Gatekeeper;
use crate::problem::Problem;
use crate::role::Role;

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Changes nothing, whatever its method.
    Read,
    /// Changes something, which is in the audit log before it is.
    Change,
}

/// One method of one path: who may ask, what is documented of it, and who answers.
pub struct Route<S> {
    /// Who may ask.
    pub role: Role,
    /// What a request may do.
    pub access: Access,
    pub(crate) method: HttpMethod,
    pub(crate) path: String,
    pub(crate) operation: Operation,
    pub(crate) schemas: Vec<(String, RefOr<Schema>)>,
    handler: MethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// A route that reads. `document` is what `#[utoipa::path]` makes beside a handler: `__path_` and its name.
    pub fn read<D, H, T>(role: Role, document: D, handler: H) -> Self
    where
        D: Path + SchemaReferences,
        H: Handler<T, S>,
        T: 'static,
    {
        Self::new(role, Access::Read, document, handler)
    }

    /// A route that changes something: its handler must do that through [`Asked::change`].
    pub fn change<D, H, T>(role: Role, document: D, handler: H) -> Self
    where
        D: Path + SchemaReferences,
        H: Handler<T, S>,
        T: 'static,
    {
        Self::new(role, Access::Change, document, handler)
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is a type without values, and only named this way")]
    fn new<D, H, T>(role: Role, access: Access, document: D, handler: H) -> Self
    where
        D: Path + SchemaReferences,
        H: Handler<T, S>,
        T: 'static,
    {
        let _ = document;
        let mut methods = D::methods();
        let method = methods.pop().expect("a handler is documented with a method");
        let mut schemas = Vec::new();
        D::schemas(&mut schemas);
        let filter = filter(&method);
        Self {
            role,
            access,
            method,
            path: D::path(),
            operation: D::operation(),
            schemas,
            handler: on(filter, handler),
        }
    }

    /// The method, as HTTP writes it.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self.method {
            HttpMethod::Get => "GET",
            HttpMethod::Put => "PUT",
            HttpMethod::Post => "POST",
            HttpMethod::Delete => "DELETE",
            HttpMethod::Options => "OPTIONS",
            HttpMethod::Head => "HEAD",
            HttpMethod::Patch => "PATCH",
            HttpMethod::Trace => "TRACE",
        }
    }

    /// The path, with variable segments in braces.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What answers its requests, behind the gate.
    pub(crate) fn gated(self, gatekeeper: &Arc<dyn Gatekeeper>) -> (String, MethodRouter<S>) {
        let gate = Gate { gatekeeper: Arc::clone(gatekeeper), role: self.role, access: self.access };
        let gate = axum::middleware::from_fn_with_state(gate, pass);
        (self.path, self.handler.route_layer(gate))
    }
}

const fn filter(method: &HttpMethod) -> MethodFilter {
    match method {
        HttpMethod::Get => MethodFilter::GET,
        HttpMethod::Put => MethodFilter::PUT,
        HttpMethod::Post => MethodFilter::POST,
        HttpMethod::Delete => MethodFilter::DELETE,
        HttpMethod::Options => MethodFilter::OPTIONS,
        HttpMethod::Head => MethodFilter::HEAD,
        HttpMethod::Patch => MethodFilter::PATCH,
        HttpMethod::Trace => MethodFilter::TRACE,
    }
}

/// What stands before a handler.
#[derive(Clone)]
struct Gate {
    gatekeeper: Arc<dyn Gatekeeper>,
    role: Role,
    access: Access,
}

/// Lets a request through to its handler if whoever asks has the role.
async fn pass(
    axum::extract::State(gate): axum::extract::State<Gate>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let actor = match gate.gatekeeper.admit(&parts).await {
        Ok(actor) if actor.role >= gate.role => actor,
        Ok(actor) => return Problem::lacks_role(actor.role, gate.role).into_response(),
        Err(problem) => return problem.into_response(),
    };
    let asked = Asked { actor, needs: gate.role, access: gate.access, audited: Arc::default() };
    let audited = Arc::clone(&asked.audited);
    parts.extensions.insert(asked);
    let response = next.run(Request::from_parts(parts, body)).await;
    if gate.access == Access::Change && response.status().is_success() {
        debug_assert!(audited.load(Ordering::Relaxed), "a change that is not in the audit log");
    }
    response
}

/// Who asks, to whoever answers; and the one way to change something.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who asks.
    pub actor: Actor,
    needs: Role,
    access: Access,
    audited: Arc<AtomicBool>,
}

impl Asked {
    /// Changes something, once the change is in the audit log. If it fails then, that is written down too.
    ///
    /// # Errors
    /// 403 without the role, the log's where the record could not be kept (nothing was changed then), and `act`'s.
    pub async fn change<T>(
        &self,
        audit: &(impl Audit + Sync + ?Sized),
        change: Change,
        act: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Problem> {
        if self.actor.role < self.needs || self.access != Access::Change {
            return Err(Problem::lacks_role(self.actor.role, self.needs));
        }
        let record = change.by(&self.actor);
        audit.record(record.clone()).await?;
        self.audited.store(true, Ordering::Relaxed);
        match act.await {
            Ok(done) => Ok(done),
            Err(error) => {
                let problem = Problem::from(error);
                let failed = Some(problem.code().to_owned());
                // What was about to be done stands there already.
                let _ = audit.record(Record { failed, ..record }).await;
                Err(problem)
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let asked = parts.extensions.get::<Self>().cloned();
        asked.ok_or_else(|| Problem::unauthenticated("nobody asked who this is"))
    }
}
