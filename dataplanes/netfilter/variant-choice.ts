import type { CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
import type { Logger } from '../logger.ts';
import { detectVariant } from './backend.ts';
import type { Variant } from './xtables.ts';

/**
 * The variant of iptables for this run of the agent: found once, so that everybody who programs tables takes the same one, and
 * kept, since what we write ourselves would change the count.
 */
export class VariantChoice {
  readonly #commands: CommandRunner;
  readonly #log: Logger;
  #detected: Promise<Variant> | undefined;
  /** Variants that held nothing of ours when this run looked, in these families, and that nobody was given since. */
  #clean: ReadonlySet<Variant> = new Set();
  #lookedAt: readonly Family[] = [];

  constructor(commands: CommandRunner, log: Logger) {
    this.#commands = commands;
    this.#log = log;
  }

  /** `wanted` is the setting iptablesBackend; only `auto` looks at the host. A failed look is taken again at the next call. */
  async choose(families: readonly Family[], wanted: 'auto' | Variant): Promise<Variant> {
    const variant = wanted === 'auto' ? await (this.#detected ??= this.#detect(families)) : wanted;
    this.#clean = new Set([...this.#clean].filter((each) => each !== variant));
    return variant;
  }

  /** Whether rules or chains of ours may stand in a variant: those of an earlier agent, or ours from before a setting changed. */
  mayHoldOurs(variant: Variant, families: readonly Family[]): boolean {
    return !this.#clean.has(variant) || families.some((family) => !this.#lookedAt.includes(family));
  }

  async #detect(families: readonly Family[]): Promise<Variant> {
    try {
      const { variant, clean } = await detectVariant(this.#commands, families);
      this.#clean = clean;
      this.#lookedAt = families;
      this.#log.info('chose the variant of iptables', { variant });
      return variant;
    } catch (error) {
      this.#detected = undefined;
      throw error;
    }
  }
}
