import { describe, expect, test } from '@jest/globals';
import { parseClusterConfig } from './cluster-config.ts';
import { kubeadmRanges } from './kubeadm.ts';

const texts = ({ ranges }: ReturnType<typeof parseClusterConfig>) => [ranges[4]?.text, ranges[6]?.text];

describe('the ConfigMap', () => {
  test.each([
    [undefined, [undefined, undefined], true],
    [{}, [undefined, undefined], true],
    [{ podCIDR: '', podCIDRv6: ' ', defaultPools: '', mtu: '9000' }, [undefined, undefined], true],
    [{ podCIDR: ' 10.65.0.0/16\n' }, ['10.65.0.0/16', undefined], true],
    [{ podCIDR: '10.65.0.0/26', podCIDRv6: 'FD65:0::/48' }, ['10.65.0.0/26', 'fd65::/48'], true],
    [{ defaultPools: 'true' }, [undefined, undefined], true],
    [{ defaultPools: 'false' }, [undefined, undefined], false],
  ])('%j says ranges %j, default pools %s', (data, ranges, defaultPools) => {
    const config = parseClusterConfig(data);
    expect([texts(config), config.defaultPools, config.problems]).toEqual([ranges, defaultPools, []]);
  });

  test.each([
    [{ podCIDR: '10.65.0.1/16' }, 'podCIDR must be an IPv4 network', '(is "10.65.0.1/16")'],
    [{ podCIDR: 'fd65::/48' }, 'podCIDR must be an IPv4 network', '(is "fd65::/48")'],
    [{ podCIDR: '10.65.0.0/27' }, 'podCIDR must be an IPv4 network with room for a /26', '(is "10.65.0.0/27")'],
    [{ podCIDR: '169.254.0.0/17' }, 'podCIDR must be an IPv4 network', 'not link-local'],
    [{ podCIDR: '0.0.0.0/0' }, 'podCIDR must be an IPv4 network', '(is "0.0.0.0/0")'],
    [{ podCIDR: '10.65.0.0/16,fd65::/48' }, 'podCIDR must be an IPv4 network', '(is "10.65.0.0/16,fd65::/48")'],
    [{ podCIDRv6: '10.65.0.0/16' }, 'podCIDRv6 must be an IPv6 network', '(is "10.65.0.0/16")'],
    [{ podCIDRv6: 'fd65::/123' }, 'podCIDRv6 must be an IPv6 network with room for a /122', '(is "fd65::/123")'],
    [{ podCIDRv6: 'fe80::/48' }, 'podCIDRv6 must be an IPv6 network', '(is "fe80::/48")'],
    [{ defaultPools: 'no' }, 'defaultPools must be "true" or "false"', '(is "no")'],
  ])('%j is refused by name and key', (data, ...parts) => {
    const { problems } = parseClusterConfig(data);
    expect(problems).toHaveLength(1);
    for (const part of ['ConfigMap kube-system/tortie-config: ', ...parts]) expect(problems[0]).toContain(part);
  });

  test('all that is wrong is said at once', () => {
    expect(parseClusterConfig({ podCIDR: 'x', podCIDRv6: 'y', defaultPools: 'z' }).problems).toHaveLength(3);
  });
});

describe("kubeadm's ConfigMap", () => {
  const configuration = (networking: string) => ({
    ClusterConfiguration: `apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking:\n  dnsDomain: cluster.local\n${networking}`,
  });

  test.each([
    [undefined, []],
    [{}, []],
    [{ ClusterConfiguration: '' }, []],
    [{ ClusterConfiguration: 'kind: ClusterConfiguration\n' }, []],
    [configuration('  serviceSubnet: 10.96.0.0/12\n'), []],
    [configuration('  podSubnet: ""\n'), []],
    [configuration('  podSubnet: 10.244.0.0/16\n'), ['10.244.0.0/16']],
    [configuration('  podSubnet: "10.244.0.0/16, fd00:10:244::/56"\n'), ['10.244.0.0/16', 'fd00:10:244::/56']],
    [configuration('  podSubnet: fd00:10:244::/56\n'), ['fd00:10:244::/56']],
  ])('%j says %j', (data, expected) => {
    const { ranges, problems } = kubeadmRanges(data);
    expect([ranges.map(({ text }) => text), problems]).toEqual([expected, []]);
  });

  test.each([
    [{ ClusterConfiguration: '{' }, 'ClusterConfiguration is no YAML'],
    [configuration('  podSubnet: 10.244.0.1/16\n'), 'networking.podSubnet must be a network'],
    [configuration('  podSubnet: 10.244.0.0/16,10.245.0.0/16\n'), 'or one of each family'],
    [configuration('  podSubnet: [10.244.0.0/16]\n'), 'networking.podSubnet must be a network'],
    [configuration('  podSubnet: 10.244.0.0/28\n'), '(is "10.244.0.0/28")'],
  ])('%j is a problem with a way out', (data, message) => {
    const { ranges, problems } = kubeadmRanges(data);
    expect(ranges).toEqual([]);
    expect(problems).toHaveLength(1);
    for (const part of [
      'ConfigMap kube-system/kubeadm-config: ',
      message,
      'say podCIDR in ConfigMap kube-system/tortie-config',
    ]) {
      expect(problems[0]).toContain(part);
    }
  });
});
