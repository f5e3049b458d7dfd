// @ts-check
/**
 * What the parts of one Jest run tell each other. Jest may load each of them as a module of its own, so it hangs on the
 * process, not on this module.
 * @typedef {{ mark: string, before: Set<string>, leftovers: number }} RunState
 */
const KEY = Symbol.for('tortie.jest-run');
const holder = /** @type {Record<symbol, RunState | undefined>} */ (/** @type {unknown} */ (globalThis));

/** @type {RunState} */
export const state = (holder[KEY] ??= { mark: '', before: new Set(), leftovers: 0 });
