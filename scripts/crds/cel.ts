/** Small pieces of CEL that many rules share. */

/** Everything on a path is there: `given('self.a.b')` is `has(self.a) && has(self.a.b)`. */
export function given(path: string): string {
  const [self = '', ...fields] = path.split('.');
  const steps = fields.map((_, index) => `has(${[self, ...fields.slice(0, index + 1)].join('.')})`);
  return steps.length === 1 ? steps.join() : `(${steps.join(' && ')})`;
}

/** A list or text is there and not empty. */
export function filled(path: string): string {
  return `(${given(path)} && size(${path}) > 0)`;
}

/** A truth value is there and true. */
export function isTrue(path: string): string {
  return `(${given(path)} && ${path})`;
}
