import type { Lab } from '../test/lab/lab.ts';
import type { LabPod } from '../test/lab/lab-pod.ts';
import { peerPort } from '../test/lab/peer.ts';
import { roleOf, until } from './policy-demo.ts';
import type { Report } from './report.ts';

/** Addresses of the Service: of no pool, and of nobody. */
const clusterIps = ['10.96.0.80', 'fd00:96::80'] as const;

/** A Service before the pods of role=back, without any kube-proxy: in eBPF the dataplane leads to its backends, and policy judges the backend. */
export async function serviceDemo(report: Report, lab: Lab, pods: readonly LabPod[]): Promise<void> {
  const backends = pods.filter((pod) => roleOf(pod) === 'back');
  const front = pods.find((pod) => roleOf(pod) === 'front');
  const test = pods.find((pod) => roleOf(pod) === 'test');
  const [backend] = backends;
  if (front === undefined || test === undefined || backend === undefined) throw new Error('the roles are not there');
  report.line(
    `\n  a Service back at ${clusterIps.join(' and ')}, port 80, before ${backends.map(({ name }) => name).join(', ')}`,
  );
  lab.apply('service', objects(backends));
  /** By how many of its addresses. */
  const reaches = async (from: LabPod) => {
    const peer = await from.peer();
    const answers = await Promise.all(clusterIps.map((host) => peer.probe(host, { port: 80, timeoutMs: 250 })));
    return answers.filter(({ verdict }) => verdict === 'reaches').length;
  };
  report.check(
    await until(async () => (await reaches(front)) === clusterIps.length),
    `${front.name} reaches it by both addresses`,
    'no answer',
  );
  report.check((await reaches(test)) === 0, `${test.name}, which policy cuts off, does not`, 'it did');
  lab.apply('service', []);
}

function objects(backends: readonly LabPod[]): readonly object[] {
  const slice = (family: 'IPv4' | 'IPv6') => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `back-${family.toLowerCase()}`,
      namespace: 'default',
      labels: { 'kubernetes.io/service-name': 'back' },
    },
    addressType: family,
    endpoints: backends.map((pod) => ({
      addresses: [family === 'IPv4' ? pod.ipv4 : pod.ipv6],
      nodeName: pod.node.name,
      conditions: { ready: true, serving: true, terminating: false },
    })),
    ports: [{ name: '', port: peerPort, protocol: 'TCP' }],
  });
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'back', namespace: 'default' },
      spec: {
        type: 'ClusterIP',
        clusterIP: clusterIps[0],
        clusterIPs: clusterIps,
        ipFamilies: ['IPv4', 'IPv6'],
        ports: [{ port: 80, protocol: 'TCP', targetPort: peerPort }],
      },
    },
    slice('IPv4'),
    slice('IPv6'),
  ];
}
