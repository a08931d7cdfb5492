/**
 * `node --import lowport/register app.js` (or --require): an unchanged program gets the ports that it may not bind. A bind
 * that the kernel refuses with EACCES goes to the helper; all else goes Node's own way. Without a helper, and where it
 * refuses too, the program has the error that it would have had, and the message says why.
 *
 * The environment: LOWPORT_SOCKET (path of the control socket), LOWPORT_HOLD (seconds that the helper keeps a listener for
 * the next process), LOWPORT_LABEL (shown by `lowport list`).
 */
import { patch_dgram } from "./patch-dgram.js";
import { patch_net } from "./patch-net.js";

/** On the global object, for there may be two copies of this package. */
const DONE = Symbol.for("lowport.register");
if (!(DONE in globalThis)) {
  Object.defineProperty(globalThis, DONE, { value: true });
  patch_net();
  patch_dgram();
}
