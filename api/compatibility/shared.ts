/** Rows of structures that many kinds have; the documentation shows each once. */
import { each, kept, no, yes, type FieldTable } from './row.ts';

/** Kubernetes' label selector. */
export const labelSelectorRows = each(
  yes,
  'matchLabels',
  'matchExpressions[].key',
  'matchExpressions[].operator',
  'matchExpressions[].values',
);

/** One end of a rule of projectcalico.org/v3. */
const entityRows = each(
  yes,
  'nets',
  'notNets',
  'selector',
  'notSelector',
  'namespaceSelector',
  'ports',
  'notPorts',
  'serviceAccounts.names',
  'serviceAccounts.selector',
  'services.name',
  'services.namespace',
);

const http = no('nothing here looks into a connection: an Allow rule with it is left out, so that it allows nothing');

/** A rule of projectcalico.org/v3. */
export const ruleRows: FieldTable = {
  ...each(
    yes,
    'action',
    'ipVersion',
    'protocol',
    'notProtocol',
    'icmp.type',
    'icmp.code',
    'notICMP.type',
    'notICMP.code',
  ),
  ...Object.fromEntries(
    ['source', 'destination'].flatMap((end) =>
      Object.entries(entityRows).map(([field, support]) => [`${end}.${field}`, support]),
    ),
  ),
  ...each(http, 'http.methods', 'http.paths[].exact', 'http.paths[].prefix'),
  'metadata.annotations': kept('for people'),
};

/** What controllers say of an object. */
export const conditionsRows = each(
  kept('of others: neither written nor read'),
  'conditions[].type',
  'conditions[].status',
  'conditions[].reason',
  'conditions[].message',
  'conditions[].lastTransitionTime',
  'conditions[].observedGeneration',
);
