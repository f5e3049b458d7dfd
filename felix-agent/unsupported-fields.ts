import { notActedOn } from '#api/compatibility/not-acted-on.ts';
import { objectText } from '#api/kinds.ts';
import { policyKinds } from './calc/convert/convert.ts';
import type { AgentStatus } from './status.ts';
import type { ObjectStore, WatchedKind } from './store/object-store.ts';
import type { Log } from './log.ts';

/** The kinds that users write. Of FelixConfiguration `ConfigWatcher` tells. */
const kinds = [
  'Tier',
  ...policyKinds,
  'HostEndpoint',
  'NetworkSet',
  'GlobalNetworkSet',
  'Profile',
  'IPPool',
  'BGPConfiguration',
] as const satisfies readonly WatchedKind[];

/** Fields that are set in objects and that this version does not, or only partly, act on: each object is said once in the log, and listed in status. */
export class UnsupportedFields {
  readonly #fields = new Map<string, readonly string[]>();
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Looks at every object as it comes and changes. */
  follow(store: ObjectStore): void {
    for (const kind of kinds) this.#followKind(store, kind);
  }

  list(): AgentStatus['notActedOn'] {
    return [...this.#fields].map(([object, fields]) => ({ object, fields }));
  }

  #followKind(store: ObjectStore, kind: (typeof kinds)[number]): void {
    store.of(kind).onChange((key, object) => {
      const name = objectText(kind, key);
      const fields = object === undefined ? [] : notActedOn(kind, object);
      const before = this.#fields.get(name)?.join(', ');
      if (fields.length === 0) this.#fields.delete(name);
      else this.#fields.set(name, fields);
      if (fields.length > 0 && fields.join(', ') !== before) {
        this.#log.warn({ object: name }, `set, but not or only partly acted on by this version: ${fields.join(', ')}`);
      }
    });
  }
}
