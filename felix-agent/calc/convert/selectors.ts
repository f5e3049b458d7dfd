/**
 * Everything that limits a policy or a rule to certain endpoints, as one selector over the labels that calc gives them: pods' own, what
 * they inherit (`pcns.` from the namespace, `pcsa.` from the service account), and `projectcalico.org/...`.
 */
import type { LabelSelector } from '#api/core/label-selector.ts';
import { inNode, joinNodes, notNode, type SelectorNode } from '#api/selector/ast.ts';
import { SelectorError } from '#api/selector/error.ts';
import { parseTree } from '#api/selector/parser.ts';
import { Selector } from '#api/selector/selector.ts';
import type { GlobalNetworkPolicy } from '#api/v3/global-network-policy.ts';
import type { NetworkPolicy } from '#api/v3/network-policy.ts';
import type { EntityRule } from '#api/v3/rule.ts';
import { ConversionError } from './problem.ts';

/** Labels that calc gives endpoints, and prefixes of those that they inherit. */
export const labelKeys = {
  namespace: 'projectcalico.org/namespace',
  serviceAccount: 'projectcalico.org/serviceaccount',
  orchestrator: 'projectcalico.org/orchestrator',
  /** With a prefix before it: the name of the namespace or the service account. */
  name: 'projectcalico.org/name',
  namespacePrefix: 'pcns.',
  serviceAccountPrefix: 'pcsa.',
} as const;

const all: SelectorNode = Object.freeze({ op: 'all' });
const inAnyNamespace: SelectorNode = Object.freeze({ op: 'has', key: labelKeys.namespace });
const withServiceAccount: SelectorNode = Object.freeze({ op: 'has', key: labelKeys.serviceAccount });
/** Pods, not host endpoints, other containers or network sets. */
const isPod: SelectorNode = Object.freeze({ op: '==', key: labelKeys.orchestrator, value: 'k8s' });

type LabelExpression = NonNullable<LabelSelector['matchExpressions']>[number];

/** Selects nothing: for a policy whose subject can't be understood. */
export const nothing = new Selector(inNode('in', labelKeys.namespace, []));

type NamespacedSubject = Pick<NetworkPolicy['spec'], 'selector' | 'serviceAccountSelector'>;
type GlobalSubject = Pick<GlobalNetworkPolicy['spec'], 'selector' | 'namespaceSelector' | 'serviceAccountSelector'>;
type PeerSelectors = Pick<EntityRule, 'selector' | 'notSelector' | 'namespaceSelector' | 'serviceAccounts'>;

/** The endpoints of a NetworkPolicy: those of its own namespace that its selectors select. */
export function namespacedSubject(spec: NamespacedSubject, namespace: string): SelectorNode {
  return and(ownNamespace(namespace), parsed(spec.selector), serviceAccounts(spec.serviceAccountSelector));
}

/**
 * The endpoints of a GlobalNetworkPolicy. As in Calico, `all()` beside a namespaceSelector means what is in a namespace, and beside a
 * serviceAccountSelector what has a service account: so `all()` with `namespaceSelector: x != "y"` leaves host endpoints alone.
 */
export function globalSubject(spec: GlobalSubject): SelectorNode {
  const namespaces = namespacesNode(spec.namespaceSelector);
  const accounts =
    spec.serviceAccountSelector === undefined || spec.serviceAccountSelector === ''
      ? undefined
      : rewritten(parseText(spec.serviceAccountSelector), labelKeys.serviceAccountPrefix, withServiceAccount);
  const own = parsed(spec.selector);
  const meaningOfAll = namespaces !== undefined ? inAnyNamespace : accounts !== undefined ? withServiceAccount : all;
  return and(namespaces, accounts, own === undefined ? undefined : rewritten(own, '', meaningOfAll));
}

/**
 * The positive side of a rule's peer; undefined where the rule does not ask for endpoints. A namespaceSelector names the namespaces, else a
 * NetworkPolicy's own is meant, as soon as the peer has any selector, a notSelector included.
 */
export function peerNode(peer: PeerSelectors, namespace: string | undefined): SelectorNode | undefined {
  const namespaces = namespacesNode(peer.namespaceSelector);
  const accounts = and(serviceAccounts(peer.serviceAccounts?.selector), accountNames(peer.serviceAccounts?.names));
  const given = [peer.selector, peer.notSelector, peer.namespaceSelector].some(isText) || asksAccounts(peer);
  if (!given) {
    return undefined;
  }
  const own = parsed(peer.selector);
  const within = namespaces ?? (namespace === undefined ? undefined : ownNamespace(namespace));
  if (within === undefined && own === undefined && !asksAccounts(peer)) {
    return undefined;
  }
  return and(within, accounts, own);
}

/** The tree of a selector's text; undefined where there is none. Throws `ConversionError`. */
export function parsed(text: string | undefined): SelectorNode | undefined {
  return isText(text) ? parseText(text) : undefined;
}

/** The pods of one namespace that a Kubernetes podSelector selects. */
export function podsOf(namespace: string, podSelector: LabelSelector | undefined): SelectorNode {
  return and(ownNamespace(namespace), isPod, labelsNode(podSelector, ''));
}

/** Pods (all, or those that the podSelector selects) of the namespaces that a Kubernetes namespaceSelector selects; an empty one selects all. */
export function podsIn(namespaceSelector: LabelSelector, podSelector?: LabelSelector): SelectorNode {
  const namespaces = labelsNode(namespaceSelector, labelKeys.namespacePrefix);
  return and(namespaces ?? inAnyNamespace, isPod, labelsNode(podSelector, ''));
}

function ownNamespace(namespace: string): SelectorNode {
  return Object.freeze({ op: '==', key: labelKeys.namespace, value: namespace });
}

/** `all()` is what is in any namespace, `global()` what is in none. What is in none has no label of a namespace: `x != "y"` selects it, too. */
function namespacesNode(text: string | undefined): SelectorNode | undefined {
  return isText(text)
    ? rewritten(parseText(text), labelKeys.namespacePrefix, inAnyNamespace, notNode(inAnyNamespace))
    : undefined;
}

/** In rules, and in a NetworkPolicy's own selector, `all()` stays all, with and without a service account (as in Calico). */
function serviceAccounts(text: string | undefined): SelectorNode | undefined {
  return isText(text) ? rewritten(parseText(text), labelKeys.serviceAccountPrefix, all) : undefined;
}

function accountNames(names: readonly string[] | undefined): SelectorNode | undefined {
  // No account has such a name, and in a selector's text a value can't have both quotes: it could pass for another selector.
  const possible = names?.filter((name) => !/["']/.test(name)) ?? [];
  return names === undefined || names.length === 0 ? undefined : inNode('in', labelKeys.serviceAccount, possible);
}

function asksAccounts({ serviceAccounts: match }: PeerSelectors): boolean {
  return match !== undefined && (isText(match.selector) || (match.names ?? []).length > 0);
}

/** A Kubernetes label selector over labels with a prefix; undefined where it selects everything. */
function labelsNode(selector: LabelSelector | undefined, prefix: string): SelectorNode | undefined {
  const { matchLabels = {}, matchExpressions = [] } = selector ?? {};
  const equal = Object.keys(matchLabels)
    .sort()
    .map((key): SelectorNode => ({ op: '==', key: `${prefix}${key}`, value: matchLabels[key] ?? '' }));
  const nodes = [...equal, ...matchExpressions.map((term) => expressionNode(term, prefix))];
  return nodes.length === 0 ? undefined : joinNodes('and', nodes);
}

/** A missing label is not in any list, for Kubernetes as for Calico. */
function expressionNode({ key, operator, values = [] }: LabelExpression, prefix: string): SelectorNode {
  const prefixed = `${prefix}${key}`;
  switch (operator) {
    case 'In':
      return inNode('in', prefixed, values);
    case 'NotIn':
      return inNode('not in', prefixed, values);
    case 'Exists':
      return { op: 'has', key: prefixed };
    case 'DoesNotExist':
      return notNode({ op: 'has', key: prefixed });
  }
}

/** Puts a prefix before every label, and says what `all()` and `global()` mean. */
function rewritten(
  node: SelectorNode,
  prefix: string,
  meaningOfAll: SelectorNode,
  meaningOfGlobal: SelectorNode = node,
): SelectorNode {
  const again = (operand: SelectorNode) => rewritten(operand, prefix, meaningOfAll, meaningOfGlobal);
  switch (node.op) {
    case 'all':
      return meaningOfAll;
    case 'global':
      return meaningOfGlobal;
    case 'not':
      return notNode(again(node.operand));
    case 'and':
    case 'or':
      return joinNodes(node.op, node.operands.map(again));
    default:
      return prefix === '' ? node : Object.freeze({ ...node, key: `${prefix}${node.key}` });
  }
}

/** All of the nodes; what is undefined or `all()` asks nothing. */
function and(...nodes: readonly (SelectorNode | undefined)[]): SelectorNode {
  const asking = nodes.filter((node) => node !== undefined && node.op !== 'all') as SelectorNode[];
  return asking.length === 0 ? all : joinNodes('and', asking);
}

function parseText(text: string): SelectorNode {
  try {
    return parseTree(text);
  } catch (error) {
    if (error instanceof SelectorError) {
      throw new ConversionError(error.message, { cause: error });
    }
    throw error;
  }
}

function isText(text: string | undefined): text is string {
  return text !== undefined && text !== '';
}
