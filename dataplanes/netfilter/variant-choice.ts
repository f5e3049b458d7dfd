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

  constructor(commands: CommandRunner, log: Logger) {
    this.#commands = commands;
    this.#log = log;
  }

  /** `wanted` is the setting iptablesBackend; only `auto` looks at the host. A failed look is taken again at the next call. */
  async choose(families: readonly Family[], wanted: 'auto' | Variant): Promise<Variant> {
    if (wanted !== 'auto') return wanted;
    this.#detected ??= this.#detect(families);
    return this.#detected;
  }

  async #detect(families: readonly Family[]): Promise<Variant> {
    try {
      const variant = await detectVariant(this.#commands, families, 'auto');
      this.#log.info('chose the variant of iptables', { variant });
      return variant;
    } catch (error) {
      this.#detected = undefined;
      throw error;
    }
  }
}
