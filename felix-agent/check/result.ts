import type { CheckId } from './check-table.ts';

/** `unknown`: it could not be told; `detail` says why. It is no evidence that anything is wrong. */
export type Outcome = 'yes' | 'no' | 'unknown';

/** What `no` means: pods get no network or no policy; a part of Tortie doesn't work, or not always; worth knowing. */
export type Severity = 'blocks' | 'degrades' | 'note';

/** One thing that was looked at. `yes` means that it is as it should be. A stable shape: `tortie check -o json` prints a list of them. */
export interface CheckResult {
  readonly id: CheckId;
  /** What was looked at, where one check looks at many things: `hash:net IPv6`, `eth0`; empty where there is only one. */
  readonly subject: string;
  readonly outcome: Outcome;
  /** What was found: a value, or the kernel's own words. */
  readonly detail: string;
  readonly severity: Severity;
  /** What doesn't work, or not as it should, when the outcome is `no`. */
  readonly disables: string;
  /** What to do about it. */
  readonly todo: string;
}

/** What a collector's facts come to: the check table has the rest, unless the case at hand calls for something more exact. */
export interface Finding {
  readonly id: CheckId;
  readonly subject?: string;
  readonly outcome: Outcome;
  readonly detail: string;
  readonly severity?: Severity;
  readonly disables?: string;
  readonly todo?: string;
}

/** An answer to a question to the node: a value, or the reason why there is none. */
export type Known<Value> =
  | { readonly known: true; readonly value: Value }
  | { readonly known: false; readonly reason: string };

export const known = <Value>(value: Value): Known<Value> => ({ known: true, value });

export const notKnown = (reason: string): { readonly known: false; readonly reason: string } => ({
  known: false,
  reason,
});

/** The value of `read`, or the words of its error. */
export async function tryToKnow<Value>(read: () => Value | Promise<Value>): Promise<Known<Value>> {
  try {
    return known(await read());
  } catch (error) {
    return notKnown(error instanceof Error ? error.message : String(error));
  }
}
