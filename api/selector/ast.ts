/** The tree of a selector, and its canonical text. */

/** One term or operator. Frozen; `and` and `or` have two or more operands, none of the same kind; `not` never holds a `not`. */
export type SelectorNode =
  | { readonly op: 'all' | 'global' }
  | { readonly op: 'has'; readonly key: string }
  | {
      readonly op: '==' | '!=' | 'contains' | 'starts with' | 'ends with';
      readonly key: string;
      readonly value: string;
    }
  /** `values` are sorted, each once. */
  | { readonly op: 'in' | 'not in'; readonly key: string; readonly values: readonly string[] }
  | { readonly op: 'not'; readonly operand: SelectorNode }
  | { readonly op: 'and' | 'or'; readonly operands: readonly SelectorNode[] };

/** `key in {...}`: values sorted and each once. */
export function inNode(op: 'in' | 'not in', key: string, values: Iterable<string>): SelectorNode {
  return Object.freeze({ op, key, values: Object.freeze([...new Set(values)].sort()) });
}

/** The negation; of a negation, what it negates. */
export function notNode(operand: SelectorNode): SelectorNode {
  return operand.op === 'not' ? operand.operand : Object.freeze({ op: 'not', operand });
}

/** All (or one of) the operands; operands of the same kind are merged in, and one operand stands for itself. */
export function joinNodes(op: 'and' | 'or', operands: readonly SelectorNode[]): SelectorNode {
  const flat = operands.flatMap((operand) => (operand.op === op ? operand.operands : [operand]));
  const [first] = flat;
  return flat.length === 1 && first !== undefined ? first : Object.freeze({ op, operands: Object.freeze(flat) });
}

/**
 * The one text of a selector: one space, double quotes where they can be, parentheses around every `&&` and `||` (as Calico writes it,
 * so that ids agree). Parsing it gives the same tree.
 */
export function canonicalText(node: SelectorNode): string {
  switch (node.op) {
    case 'all':
    case 'global':
      return `${node.op}()`;
    case 'has':
      return `has(${node.key})`;
    case '==':
    case '!=':
    case 'contains':
    case 'starts with':
    case 'ends with':
      return `${node.key} ${node.op} ${quoted(node.value)}`;
    case 'in':
    case 'not in':
      return `${node.key} ${node.op} {${node.values.map(quoted).join(', ')}}`;
    case 'not':
      return `!${canonicalText(node.operand)}`;
    default:
      return `(${node.operands.map(canonicalText).join(node.op === 'and' ? ' && ' : ' || ')})`;
  }
}

/** There are no escapes in the grammar, so a value never holds both kinds of quotes. */
function quoted(value: string): string {
  return value.includes('"') ? `'${value}'` : `"${value}"`;
}
