/** What holds without any policy. */
import { lacking, type Row } from '../row.ts';

const everybody = 'client,web,blue,far,web2,red';

export const basics: readonly Row[] = [
  {
    name: 'without policies every pod reaches every other one, on its node and on others, and is seen with its own address',
    source: ['core 1'],
    phases: [{ expect: { reaches: [`${everybody} > ${everybody} tcp,udp,icmp`] } }],
  },
  lacking(
    'a Pod has podIP, podIPs and containerID as annotations after ADD, and blank ones after DEL',
    ['core 3'],
    'Kubernetes: the files datastore has no annotations to write',
  ),
];
