/**
 * Calico's label selectors: `has(k)`, `k == "v"`, `!=`, `in {...}`, `not in {...}`, `contains`, `starts with`, `ends with`, `all()`,
 * `global()`, `!`, `&&` over `||`, parentheses. Parsed once; judging is a chain of closures.
 */
import { hashId } from '../hash-id.ts';
import { canonicalText, type SelectorNode } from './ast.ts';
import { parseTree } from './parser.ts';

/** Longest text that an object's selector field may have. What is made from other objects (namespaceSelector and such) may be longer. */
export const maxSelectorLength = 1024;

/** Where a selector finds labels: a record, or a function for labels that are inherited from elsewhere. */
export type Labels = Readonly<Record<string, string>> | ((key: string) => string | undefined);

type Lookup = (key: string) => string | undefined;
type Test = (get: Lookup) => boolean;

/** A parsed selector. Two with the same `text` select the same. */
export class Selector {
  readonly tree: SelectorNode;
  /** The canonical text. */
  readonly text: string;
  readonly #test: Test;
  #id: string | undefined;

  constructor(tree: SelectorNode) {
    this.tree = tree;
    this.text = canonicalText(tree);
    this.#test = testOf(tree);
  }

  /** Does it select what has these labels? Comparisons that negate (`!=`, `not in`, `!`) are true where the label is missing. */
  evaluate(labels: Labels): boolean {
    return this.#test(
      // A label may be called `constructor`: what the record inherits does not count.
      typeof labels === 'function' ? labels : (key) => (Object.hasOwn(labels, key) ? labels[key] : undefined),
    );
  }

  /** Stable name for what is made of this selector (IP sets): `s:` and 38 characters, from a SHA-224 of the canonical text, as Calico's. */
  get id(): string {
    this.#id ??= hashId('s', this.text);
    return this.#id;
  }
}

/** Parses a selector; empty text selects everything. Throws `SelectorError`. */
export function parseSelector(text: string): Selector {
  return new Selector(parseTree(text));
}

function testOf(node: SelectorNode): Test {
  switch (node.op) {
    case 'all':
    case 'global':
      return () => true;
    case 'has': {
      const { key } = node;
      return (get) => get(key) !== undefined;
    }
    case '==': {
      const { key, value } = node;
      return (get) => get(key) === value;
    }
    case '!=': {
      const { key, value } = node;
      return (get) => get(key) !== value;
    }
    case 'contains': {
      const { key, value } = node;
      return (get) => get(key)?.includes(value) === true;
    }
    case 'starts with': {
      const { key, value } = node;
      return (get) => get(key)?.startsWith(value) === true;
    }
    case 'ends with': {
      const { key, value } = node;
      return (get) => get(key)?.endsWith(value) === true;
    }
    case 'in': {
      const { key } = node;
      const values: ReadonlySet<string | undefined> = new Set(node.values);
      return (get) => values.has(get(key));
    }
    case 'not in': {
      const { key } = node;
      const values: ReadonlySet<string | undefined> = new Set(node.values);
      return (get) => !values.has(get(key));
    }
    case 'not': {
      const operand = testOf(node.operand);
      return (get) => !operand(get);
    }
    default: {
      const operands = node.operands.map(testOf);
      return node.op === 'and'
        ? (get) => operands.every((operand) => operand(get))
        : (get) => operands.some((operand) => operand(get));
    }
  }
}
