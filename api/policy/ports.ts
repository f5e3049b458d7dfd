/** Ports as rules of projectcalico.org/v3 write them: `80`, `"80"`, `"1000:2000"`, `"http"`. */

/** One entry of a rule's `ports`: a range (a single port is one of length 1), or a name that each endpoint resolves for itself. */
export type RulePort =
  | { readonly kind: 'range'; readonly min: number; readonly max: number }
  | { readonly kind: 'name'; readonly name: string };

const rangePattern = /^(\d{1,5})(?::(\d{1,5}))?$/;
/** True for the name of a port as Kubernetes and Calico have it: at most 15 of a-z, 0-9 and single inner dashes, with a letter. */
export function isPortName(text: string): boolean {
  return text.length <= 15 && /^(?!.*--)(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(text);
}

/** Reads one entry; undefined if it is neither a port, a range nor a name. A name has a letter, so nothing is both. */
export function parseRulePort(port: string | number): RulePort | undefined {
  const text = String(port);
  const match = rangePattern.exec(text);
  if (match === null) {
    return isPortName(text) ? { kind: 'name', name: text } : undefined;
  }
  const min = Number(match[1]);
  const max = match[2] === undefined ? min : Number(match[2]);
  return min >= 1 && min <= max && max <= 65535 ? { kind: 'range', min, max } : undefined;
}
