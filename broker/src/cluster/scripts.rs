//! What Redis does in one step, as scripts in `lua/`. Each says there what it takes and what it answers.

use std::sync::LazyLock;

use crate::bus::redis::Script;

macro_rules! scripts {
    ($($name:ident = $file:literal;)+) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));)+
    };
}

scripts! {
    REGISTER = "lua/register.lua";
    RENEW = "lua/renew.lua";
    LEAVE = "lua/leave.lua";
    NODES = "lua/nodes.lua";
    APPLY = "lua/apply.lua";
    MEMBERS = "lua/members.lua";
    CLAIM = "lua/claim.lua";
    REAP = "lua/reap.lua";
    SETTLE = "lua/settle.lua";
    BURY = "lua/bury.lua";
    OWN = "lua/own.lua";
    DISOWN = "lua/disown.lua";
    SECRET = "lua/secret.lua";
}
