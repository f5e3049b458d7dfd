import type { AgentConfig } from '../config/agent-config.ts';
import type { CheckSettings } from './facts.ts';

/** What the agent's settings mean for a check. */
export function checkSettings({ settings, dataplane, wanted }: AgentConfig, bpffs: string): CheckSettings {
  return {
    wanted,
    ipv6Support: settings.ipv6Support,
    interfacePrefixes: settings.interfacePrefix,
    iptablesBackend: dataplane.iptablesBackend,
    bpffs,
    ports: [
      ...(settings.healthEnabled
        ? [{ port: settings.healthPort, host: settings.healthHost, setting: 'healthPort' }]
        : []),
      ...(settings.prometheusMetricsEnabled
        ? [
            {
              port: settings.prometheusMetricsPort,
              host: settings.prometheusMetricsHost ?? '',
              setting: 'prometheusMetricsPort',
            },
          ]
        : []),
    ],
  };
}
