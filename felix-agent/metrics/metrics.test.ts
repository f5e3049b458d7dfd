import type { IncomingMessage, ServerResponse } from 'node:http';
import { expect, test } from '@jest/globals';
import type { CommandResult } from '#native/command-runner.ts';
import { MeteredCommands } from './metered-commands.ts';
import { metricTable } from './metric-table.ts';
import { Metrics, metricsService } from './metrics.ts';

const valueOf = (text: string, series: string): string | undefined =>
  text
    .split('\n')
    .find((line) => line.startsWith(`${series} `))
    ?.slice(series.length + 1);

test('every metric of the table is announced with its help and type, and no other', async () => {
  const text = await new Metrics().text();
  const announced = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]);
  expect(announced).toEqual(Object.entries(metricTable).map(([name, { type }]) => [name, type]));
  for (const [name, { help }] of Object.entries(metricTable)) expect(text).toContain(`# HELP ${name} ${help}`);
});

test('what is read at a scrape replaces what was there before: a label that is gone is not shown any more', async () => {
  const metrics = new Metrics();
  let kind = 'iptables';
  metrics.read('tortie_dataplane_active', () => [{ value: 1, labels: { kind } }]);
  expect(valueOf(await metrics.text(), 'tortie_dataplane_active{kind="iptables"}')).toBe('1');
  kind = 'ebpf';
  const text = await metrics.text();
  expect(valueOf(text, 'tortie_dataplane_active{kind="ebpf"}')).toBe('1');
  expect(text).not.toContain('kind="iptables"');
});

test('a counter that is read shows the total, not the sum of scrapes', async () => {
  const metrics = new Metrics();
  metrics.read('tortie_policy_rule_packets_total', () => [
    { value: 7, labels: { rule: 'NetworkPolicy a/b ingress 0' } },
  ]);
  await metrics.text();
  const series = 'tortie_policy_rule_packets_total{rule="NetworkPolicy a/b ingress 0"}';
  expect(valueOf(await metrics.text(), series)).toBe('7');
});

test.each([
  ['iptables-nft-restore', 0, { restore_calls: '1', restore_errors: '0', save_calls: '0' }],
  ['/usr/sbin/ip6tables-legacy-save', 0, { save_calls: '1', save_errors: '0' }],
  ['ip6tables-legacy-save', 1, { save_calls: '1', save_errors: '1', restore_calls: '0' }],
])('a run of %s with status %i counts %j', async (file, status, counts) => {
  const metrics = new Metrics();
  const result: CommandResult = { status, signal: null, stdout: '', stderr: '' };
  const commands = new MeteredCommands({ run: () => Promise.resolve(result) }, metrics);
  expect(await commands.run(file, [])).toBe(result);
  const text = await metrics.text();
  for (const [name, value] of Object.entries(counts)) expect(valueOf(text, `felix_iptables_${name}`)).toBe(value);
  const process = file.replace('/usr/sbin/', '');
  expect(valueOf(text, `felix_exec_time_micros_count{fork="true",process="${process}"}`)).toBe('1');
});

test('a program that can not be started counts as an error, and its error goes on', async () => {
  const metrics = new Metrics();
  const commands = new MeteredCommands({ run: () => Promise.reject(new Error('ENOENT')) }, metrics);
  await expect(commands.run('iptables-nft-save', [])).rejects.toThrow('ENOENT');
  expect(valueOf(await metrics.text(), 'felix_iptables_save_errors')).toBe('1');
});

test('a metric that can not be read is left out, counted and named with its reason; the others are shown', async () => {
  const metrics = new Metrics();
  let works = true;
  metrics.read('tortie_policy_rule_packets_total', () =>
    works ? [{ value: 1, labels: { rule: 'r' } }] : Promise.reject(new Error('iptables-save:\nlock')),
  );
  metrics.read('felix_cluster_num_hosts', () => {
    if (!works) throw new Error('no graph');
    return [{ value: 3 }];
  });
  metrics.read('tortie_ready', () => [{ value: 1 }]);
  await metrics.text();
  works = false;
  const text = await metrics.text();
  expect(valueOf(text, 'tortie_ready')).toBe('1');
  expect(text).not.toMatch(/^(tortie_policy_rule_packets_total|felix_cluster_num_hosts)\b/m);
  expect(valueOf(text, 'tortie_metric_read_failures_total{metric="felix_cluster_num_hosts"}')).toBe('1');
  expect(text).toContain("# tortie_policy_rule_packets_total can't be read: iptables-save: lock\n");
});

test('scrapes at the same time read once, a later one reads anew', async () => {
  const metrics = new Metrics();
  let reads = 0;
  metrics.read('felix_cluster_num_hosts', async () => {
    await Promise.resolve();
    return [{ value: ++reads }];
  });
  const [one, other] = await Promise.all([metrics.text(), metrics.text()]);
  expect(one).toBe(other);
  expect(valueOf(await metrics.text(), 'felix_cluster_num_hosts')).toBe('2');
});

test('a query after the path does not matter', () => {
  const respond = (url: string) => {
    const heads: number[] = [];
    const response = {
      writeHead(status: number) {
        heads.push(status);
        return this;
      },
      end() {},
    };
    metricsService(new Metrics()).answer({ url } as IncomingMessage, response as unknown as ServerResponse);
    return heads;
  };
  expect(respond('/metric')).toEqual([404]);
  expect(respond('/metrics?collect=all')).toEqual([]); // answered later
});
