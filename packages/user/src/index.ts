export { type ServeOptions, ServerContext, VfioUserServer } from './server/server.js';
export type { ServedDevice } from './server/session.js';
export { type Capabilities, defaultCapabilities } from './wire/capabilities.js';
export { Command, HEADER_BYTES, HeaderFlag } from './wire/header.js';
