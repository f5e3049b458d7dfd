import type { Log } from '../log.ts';
import type { AgentStatus } from '../status.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { resolveAgentConfig, type AgentConfig } from './agent-config.ts';

/** The settings in force, merged again whenever a FelixConfiguration of this node changes. */
export class ConfigWatcher {
  readonly #store: ObjectStore;
  readonly #nodeName: string;
  readonly #env: Readonly<Record<string, string>>;
  readonly #log: Log;
  readonly #listeners: (() => void)[] = [];
  readonly #told = new Set<string>();
  #current: AgentConfig;

  constructor(store: ObjectStore, nodeName: string, env: Readonly<Record<string, string>>, log: Log) {
    this.#store = store;
    this.#nodeName = nodeName;
    this.#env = env;
    this.#log = log;
    this.#current = resolveAgentConfig(env, undefined, undefined);
  }

  get current(): AgentConfig {
    return this.#current;
  }

  /** Told after a change that makes a difference. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  start(): void {
    const relevant = new Set(['default', `node.${this.#nodeName}`]);
    this.#store.of('FelixConfiguration').onChange(({ name }) => {
      if (relevant.has(name)) this.#resolve();
    });
  }

  /** Says each thing that a user should know about the settings once. */
  logNews({ notActedOn, problems, overriddenByEnvironment }: AgentStatus['configuration']): void {
    for (const problem of problems) this.#once(`FelixConfiguration: ${problem}`);
    for (const field of notActedOn)
      this.#once(`FelixConfiguration: ${field} is set, but this version does not act on it`);
    for (const { field, variable } of overriddenByEnvironment) {
      this.#once(`FelixConfiguration: ${field} comes from ${variable}; changing the object doesn't change it`);
    }
  }

  #once(message: string): void {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.#log.warn(message);
  }

  #resolve(): void {
    const objects = this.#store.of('FelixConfiguration');
    const next = resolveAgentConfig(
      this.#env,
      objects.get({ name: `node.${this.#nodeName}` }),
      objects.get({ name: 'default' }),
    );
    const changed = JSON.stringify(next) !== JSON.stringify(this.#current);
    this.#current = next;
    if (changed) for (const listener of this.#listeners) listener();
  }
}
