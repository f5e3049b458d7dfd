import type { SelectorNode } from '#api/selector/ast.ts';

/** A label that what a selector selects may have to carry: with this value, or with any. */
export interface Anchor {
  readonly key: string;
  readonly value?: string;
}

/**
 * Ways to narrow a selector down: each list is complete by itself, that is, whatever the selector selects carries at least one of its
 * anchors. Any list may be used to find candidates. None at all: nothing can be said beforehand (`all()`, `!has(x)`, `x != "y"`).
 */
export type AnchorLists = readonly (readonly Anchor[])[];

/** Longest list worth having: beyond it, looking at everything is as good. */
const longestList = 64;

/** What follows from a selector's text about the labels of all that it selects. */
export function anchorLists(node: SelectorNode): AnchorLists {
  switch (node.op) {
    case '==':
      return [[{ key: node.key, value: node.value }]];
    case 'in': {
      const { key, values } = node;
      return [values.length > longestList ? [{ key }] : values.map((value) => ({ key, value }))];
    }
    case 'has':
    case 'contains':
    case 'starts with':
    case 'ends with':
      return [[{ key: node.key }]];
    case 'and':
      return node.operands.flatMap(anchorLists);
    case 'or': {
      const union: Anchor[] = [];
      for (const operand of node.operands) {
        const best = cheapest(anchorLists(operand));
        if (best === undefined) return [];
        union.push(...best);
      }
      return union.length > longestList ? [] : [union];
    }
    default:
      return [];
  }
}

/** The list that, as far as one can tell without looking at the objects, the fewest of them meet. */
export function cheapest(lists: AnchorLists): readonly Anchor[] | undefined {
  let best: readonly Anchor[] | undefined;
  let bestCost = Infinity;
  for (const list of lists) {
    const cost = list.reduce((sum, anchor) => sum + costOf(anchor), 0);
    if (cost < bestCost) {
      best = list;
      bestCost = cost;
    }
  }
  return best;
}

/** All pods have an orchestrator, many share a namespace or a key, few share the rest. */
function costOf({ key, value }: Anchor): number {
  if (key === 'projectcalico.org/orchestrator') return 1000;
  if (value === undefined) return 100;
  return key === 'projectcalico.org/namespace' || key.startsWith('pcns.') ? 10 : 1;
}

/** Every key whose label the selector looks at: a change of any other changes nothing. */
export function mentionedKeys(node: SelectorNode, into = new Set<string>()): ReadonlySet<string> {
  if ('key' in node) into.add(node.key);
  else if (node.op === 'not') mentionedKeys(node.operand, into);
  else if ('operands' in node) for (const operand of node.operands) mentionedKeys(operand, into);
  return into;
}
