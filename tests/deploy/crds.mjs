// Validates objects that are no part of Kubernetes itself. An array of them comes on standard input; what is wrong goes to
// standard output, a line each.
import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import { PrometheusRule, ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const models = { HTTPRoute, PrometheusRule, ServiceMonitor };
let text = "";
for await (const part of process.stdin) text += part;
for (const object of JSON.parse(text)) {
  const Model = models[object.kind];
  if (!Model || Model.apiVersion !== object.apiVersion) {
    console.log(`${object.kind} ${object.apiVersion}: no model of it`);
    continue;
  }
  try {
    new Model(object).validate();
  } catch (error) {
    console.log(`${object.kind} ${object.metadata?.name}: ${error.message}`);
  }
}
