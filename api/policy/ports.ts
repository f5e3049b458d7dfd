/** Ports as rules of projectcalico.org/v3 write them: `80`, `"80"`, `"1000:2000"`, `"http"`. */

/** One entry of a rule's `ports`: a range (a single port is one of length 1), or a name that each endpoint resolves for itself. */
export type RulePort =
  | { readonly kind: 'range'; readonly min: number; readonly max: number }
  | { readonly kind: 'name'; readonly name: string };

const rangePattern = /^(\d{1,5})(?::(\d{1,5}))?$/;
/** Longer and freer than a Kubernetes port name: Calico takes what it can never find for a name that nobody has. */
const namePattern = /^[a-zA-Z0-9_.-]{1,128}$/;

/** Reads one entry; undefined if it is neither a port, a range nor a name. Text that consists of digits is a number, never a name. */
export function parseRulePort(port: string | number): RulePort | undefined {
  const text = String(port);
  const match = rangePattern.exec(text);
  if (match === null) {
    return typeof port === 'string' && !/^[\d:]+$/.test(text) && namePattern.test(text)
      ? { kind: 'name', name: text }
      : undefined;
  }
  const min = Number(match[1]);
  const max = match[2] === undefined ? min : Number(match[2]);
  return min >= 1 && min <= max && max <= 65535 ? { kind: 'range', min, max } : undefined;
}
