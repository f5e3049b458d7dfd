/** Random selectors: Calico's text, and Kubernetes' objects. */
import type { Random } from './random.ts';

type Alphabet = Readonly<Record<string, readonly string[]>>;

/** A selector of every operator, at most two levels deep. */
export function selectorText(random: Random, alphabet: Alphabet, depth = 2): string {
  if (depth > 0 && random.chance(0.3)) {
    const operands = Array.from({ length: 2 + random.below(2) }, () => selectorText(random, alphabet, depth - 1));
    return `(${operands.join(random.pick([' && ', ' || ']))})`;
  }
  if (random.chance(0.08)) return `!(${selectorText(random, alphabet, 0)})`;
  return term(random, alphabet);
}

function term(random: Random, alphabet: Alphabet): string {
  if (random.chance(0.05)) return 'all()';
  const key = random.chance(0.04) ? 'unknown' : random.pick(Object.keys(alphabet));
  const values = alphabet[key] ?? ['x'];
  const quote = random.pick(['"', "'"]);
  const value = (text: string) => `${quote}${text}${quote}`;
  const one = random.pick(values);
  const list = () =>
    random
      .some(values, 0, values.length)
      .concat(random.chance(0.3) ? ['nothing'] : [])
      .map(value)
      .join(', ');
  return random.weighted(
    [4, `${key} == ${value(one)}`],
    [2, `${key} != ${value(one)}`],
    [2, `has(${key})`],
    [1, `!has(${key})`],
    [2, `${key} in {${list()}}`],
    [2, `${key} not in {${list()}}`],
    [1, `${key} contains ${value(one.slice(1))}`],
    [1, `${key} starts with ${value(one.slice(0, 1))}`],
    [1, `${key} ends with ${value(one.slice(-1))}`],
  );
}

/** A Kubernetes label selector; empty ones select everything. */
export function labelSelector(random: Random, alphabet: Alphabet): object {
  const keys = Object.keys(alphabet);
  const expression = () => {
    const key = random.pick(keys);
    const operator = random.pick(['In', 'NotIn', 'Exists', 'DoesNotExist']);
    const values = random.some(alphabet[key] ?? [], 1, 2);
    return { key, operator, ...(operator.endsWith('In') ? { values } : {}) };
  };
  return {
    ...random.maybe(0.5, 'matchLabels', () => {
      const key = random.pick(keys);
      return { [key]: random.pick(alphabet[key] ?? []) };
    }),
    ...random.maybe(0.35, 'matchExpressions', () => Array.from({ length: 1 + random.below(2) }, expression)),
  };
}
