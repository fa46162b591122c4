{{/* Names, labels and addresses. The context is the root unless a comment gives another. */}}

{{- define "pyswarm.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, so that a name with the longest suffix is a DNS label. */}}
{{- define "pyswarm.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "pyswarm.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "pyswarm.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* (dict "root" $ "component" "agent"): the labels of selectors, which cannot change. */}}
{{- define "pyswarm.selector" -}}
app.kubernetes.io/name: {{ include "pyswarm.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "pyswarm.labels" -}}
{{- with .root.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
{{ include "pyswarm.selector" . }}
app.kubernetes.io/part-of: pyswarm
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* (dict "root" $ "component" "agent" "values" .Values.agent): labels and annotations of a pod. */}}
{{- define "pyswarm.podMetadata" -}}
labels:
  {{- with merge (dict) .values.podLabels .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "pyswarm.selector" . | nindent 2 }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The same context: the common part of every pod. Service links would set environment variables with
     the prefix of the programs' own. */}}
{{- define "pyswarm.podSpec" -}}
serviceAccountName: {{ include "pyswarm.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $field := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $.values $field }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "pyswarm.serviceAccount" -}}
{{- if .root.Values.serviceAccount.create -}}
{{- include "pyswarm.fullname" .root }}-{{ .component }}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* (dict "root" $ "image" .Values.agent.image) */}}
{{- define "pyswarm.image" -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}

{{/* The security context of unprivileged containers. */}}
{{- define "pyswarm.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "pyswarm.unprivilegedPod" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "pyswarm.controllerAddress" -}}
{{- printf "%s-controller.%s.svc.%s:%v" (include "pyswarm.fullname" .) .Release.Namespace .Values.clusterDomain .Values.controller.service.port -}}
{{- end -}}

{{- define "pyswarm.joinTokenSecret" -}}
{{- default (printf "%s-join-token" (include "pyswarm.fullname" .)) .Values.joinToken.existingSecret -}}
{{- end -}}

{{- define "pyswarm.encryptionSecret" -}}
{{- default (printf "%s-encryption-key" (include "pyswarm.fullname" .)) .Values.encryptionKey.existingSecret -}}
{{- end -}}

{{- define "pyswarm.scrapeSecret" -}}
{{- default (printf "%s-scrape" (include "pyswarm.fullname" .)) .Values.metrics.serviceMonitor.existingSecret -}}
{{- end -}}

{{/* "true" if the chart runs etcd; empty otherwise. */}}
{{- define "pyswarm.ownEtcd" -}}
{{- if and .Values.etcd.enabled (not .Values.externalEtcd.endpoints) -}}
true
{{- end -}}
{{- end -}}

{{- define "pyswarm.etcdDomain" -}}
{{- printf "%s-etcd.%s.svc.%s" (include "pyswarm.fullname" .) .Release.Namespace .Values.clusterDomain -}}
{{- end -}}

{{- define "pyswarm.etcdEndpoints" -}}
{{- if include "pyswarm.ownEtcd" . -}}
{{- $members := list -}}
{{- range $i := until (int .Values.etcd.replicas) -}}
{{- $members = append $members (printf "%s-etcd-%d.%s:2379" (include "pyswarm.fullname" $) $i (include "pyswarm.etcdDomain" $)) -}}
{{- end -}}
{{- join "," $members -}}
{{- else -}}
{{- join "," .Values.externalEtcd.endpoints -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the certificates for etcd; empty without TLS. */}}
{{- define "pyswarm.etcdTlsSecret" -}}
{{- if include "pyswarm.ownEtcd" . -}}
{{- default (printf "%s-etcd-tls" (include "pyswarm.fullname" .)) .Values.etcd.tls.existingSecret -}}
{{- else -}}
{{- .Values.externalEtcd.tls.existingSecret -}}
{{- end -}}
{{- end -}}
