/**
 * The oracle's own reading of a selector: text to a predicate over labels, by the grammar alone (Calico's; facts: its documentation of
 * label selectors). It shares nothing with `api/selector`, so that a mistake there shows.
 */

/** Labels of something. */
export type Labels = Readonly<Record<string, string>>;
/** `inAll`: is what has the labels among what `all()` means here (default: it is); `global()` is the rest. */
export type Predicate = (labels: Labels, inAll?: boolean) => boolean;

const token = /\s*(\|\||&&|==|!=|!|[(){},]|"[^"]*"|'[^']*'|[A-Za-z0-9_.\-/]+)/y;

/** What the selector says of labels; empty text selects everything. Throws on text that is no selector. */
export function readSelector(text: string): Predicate {
  const words = wordsOf(text);
  if (words.length === 0) return () => true;
  let at = 0;
  const peek = (): string | undefined => words[at];
  const next = (): string => {
    const word = words[at++];
    if (word === undefined) throw new Error(`selector ends too early: ${text}`);
    return word;
  };
  const expect = (wanted: string): void => {
    const word = next();
    if (word !== wanted) throw new Error(`selector: ${wanted} expected, not ${word}: ${text}`);
  };
  const literal = (): string => next().slice(1, -1);

  const either = (): Predicate => {
    const sides = [both()];
    while (peek() === '||') {
      next();
      sides.push(both());
    }
    return (labels, inAll) => sides.some((side) => side(labels, inAll));
  };
  const both = (): Predicate => {
    const sides = [one()];
    while (peek() === '&&') {
      next();
      sides.push(one());
    }
    return (labels, inAll) => sides.every((side) => side(labels, inAll));
  };
  const one = (): Predicate => {
    const word = next();
    if (word === '!') {
      const inner = one();
      return (labels, inAll) => !inner(labels, inAll);
    }
    if (word === '(') {
      const inner = either();
      expect(')');
      return inner;
    }
    if ((word === 'all' || word === 'global') && peek() === '(') {
      next();
      expect(')');
      const isAll = word === 'all';
      return (_, inAll = true) => inAll === isAll;
    }
    if (word === 'has' && peek() === '(') {
      next();
      const key = next();
      expect(')');
      return (labels) => key in labels;
    }
    return comparison(word);
  };
  const comparison = (key: string): Predicate => {
    const operator = next();
    switch (operator) {
      case '==': {
        const value = literal();
        return (labels) => labels[key] === value;
      }
      case '!=': {
        const value = literal();
        return (labels) => labels[key] !== value;
      }
      case 'contains': {
        const value = literal();
        return (labels) => labels[key]?.includes(value) ?? false;
      }
      case 'starts': {
        expect('with');
        const value = literal();
        return (labels) => labels[key]?.startsWith(value) ?? false;
      }
      case 'ends': {
        expect('with');
        const value = literal();
        return (labels) => labels[key]?.endsWith(value) ?? false;
      }
      case 'in': {
        const values = list();
        return (labels) => key in labels && values.includes(labels[key] ?? '');
      }
      case 'not': {
        expect('in');
        const values = list();
        return (labels) => !(key in labels && values.includes(labels[key] ?? ''));
      }
      default:
        throw new Error(`selector: unknown operator ${operator}: ${text}`);
    }
  };
  const list = (): string[] => {
    const values: string[] = [];
    expect('{');
    while (peek() !== '}') {
      values.push(literal());
      if (peek() === ',') next();
    }
    expect('}');
    return values;
  };

  const predicate = either();
  if (at < words.length) throw new Error(`selector goes on after its end: ${text}`);
  return predicate;
}

function wordsOf(text: string): string[] {
  const words: string[] = [];
  token.lastIndex = 0;
  while (token.lastIndex < text.trimEnd().length) {
    const start = token.lastIndex;
    const [, word] = token.exec(text) ?? [];
    if (word === undefined) throw new Error(`no selector from character ${start} on: ${text}`);
    words.push(word);
  }
  return words;
}
