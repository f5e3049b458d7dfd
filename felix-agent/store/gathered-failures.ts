import { kinds, type KindName } from '#api/kinds.ts';

/** So many kinds are named in a line; more are counted. */
const mostNamed = 3;

/**
 * Why kinds can't be read, with one line for all that fail alike: when a datastore is away, each kind says so, and each in its own name.
 * `failure` begins with `can't read KIND objects: `.
 */
export function gatheredFailures(
  failing: readonly { readonly kind: KindName; readonly failure: string }[],
): readonly string[] {
  const groups = new Map<string, { readonly kind: KindName; readonly failure: string }[]>();
  for (const one of failing) {
    const alike = withoutKind(one.kind, one.failure);
    const group = groups.get(alike);
    if (group === undefined) groups.set(alike, [one]);
    else group.push(one);
  }
  return [...groups].map(([alike, group]) => {
    const [first] = group;
    if (first === undefined || group.length === 1) return first?.failure ?? alike;
    const names = group.slice(0, mostNamed).map(({ kind }) => kind);
    const others = group.length - names.length;
    return `can't read objects of ${group.length} kinds (${names.join(', ')}${others > 0 ? `, ${others} more` : ''}): ${alike}`;
  });
}

/** RBAC's words name the kind three times: `nodes is forbidden: User "x" cannot list resource "nodes" in API group "" ...`. */
const forbidden = /\S+ is (forbidden: User "[^"]*" cannot) \w+ resource "[^"]*" in API group "[^"]*"/;

/** The reason as it is the same for every kind. */
function withoutKind(kind: KindName, failure: string): string {
  const [, why = failure] = /^can't read \w+ objects: (?:\w+ \w+ objects: )?(.*)$/s.exec(failure) ?? [];
  return why
    .replaceAll(`${kinds[kind].plural} of `, 'this kind of ')
    .replaceAll(`${kind} objects`, 'objects')
    .replace(forbidden, '$1 read them');
}
