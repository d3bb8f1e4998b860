// The public names of the package.

export { Client } from "./client.js";
export type { ClientEvents, ClientOptions, HistoryOptions, PublishOptions } from "./client.js";
export type { WebSocketConstructor } from "./connection.js";
export { BongsuError } from "./error.js";
export type { ErrorCode } from "./error.js";
export type { State, TokenSource } from "./link.js";
export { Presence, PresenceWatch } from "./presence.js";
export type { PresenceChange } from "./presence.js";
export { Subscription } from "./subscription.js";
export type { SubscribeOptions, SubscriptionEvents } from "./subscription.js";
export type {
  Item,
  Lost,
  Member,
  Members,
  Message,
  Page,
  Position,
  Published,
  Reset,
  Session,
  Start,
} from "./types.js";
