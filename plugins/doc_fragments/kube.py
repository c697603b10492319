# Copyright: (c) 2026, stateful.petset contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of the connection to Kubernetes; the code is in module_utils/_module.py (KUBE_ARG_SPEC)."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of a kubeconfig file on the machine that runs the module, or its content as a mapping.
      - Several paths can be joined with V(:); for each name the first file that has it wins, as with C(kubectl).
      - Can also be set with E(K8S_AUTH_KUBECONFIG). Without any setting and outside a cluster E(KUBECONFIG) is used,
        then C(~/.kube/config).
      - Empty text counts as not set, for this and all the other options of the connection.
    type: raw
  context:
    description:
      - Context in the kubeconfig. An unknown one is an error that lists the known ones.
      - Can also be set with E(K8S_AUTH_CONTEXT).
    type: str
  host:
    description:
      - URL of the API server. With credentials beside it nothing else is needed.
      - Can also be set with E(K8S_AUTH_HOST).
    type: str
  api_key:
    description:
      - Bearer token.
      - Can also be set with E(K8S_AUTH_API_KEY).
    type: str
  username:
    description:
      - User for basic authentication, for a proxy in front of the API. Kubernetes itself has none.
      - Can also be set with E(K8S_AUTH_USERNAME).
    type: str
  password:
    description:
      - Password to O(username).
      - Can also be set with E(K8S_AUTH_PASSWORD).
    type: str
  client_cert:
    description:
      - Path of the client certificate.
      - Can also be set with E(K8S_AUTH_CERT_FILE).
    type: path
    aliases: [cert_file]
  client_key:
    description:
      - Path of the key to O(client_cert).
      - Can also be set with E(K8S_AUTH_KEY_FILE).
    type: path
    aliases: [key_file]
  ca_cert:
    description:
      - Path of the CA certificate of the API server.
      - Can also be set with E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases: [ssl_ca_cert]
  validate_certs:
    description:
      - Whether the certificate of the API server is checked. It is, unless this or the kubeconfig says otherwise.
      - Can also be set with E(K8S_AUTH_VERIFY_SSL).
    type: bool
    aliases: [verify_ssl]
  proxy:
    description:
      - URL of an HTTP or SOCKS proxy.
      - Can also be set with E(K8S_AUTH_PROXY). Without it the usual variables of the environment hold.
    type: str
  no_proxy:
    description:
      - Hosts that are reached without the proxy, joined with commas.
      - Can also be set with E(K8S_AUTH_NO_PROXY).
    type: str
  proxy_headers:
    description:
      - Headers for the proxy.
    type: dict
    suboptions:
      proxy_basic_auth:
        description:
          - C(user:password) for the proxy.
        type: str
      basic_auth:
        description:
          - C(user:password) for basic authentication.
        type: str
      user_agent:
        description:
          - What to send as user agent.
        type: str
  impersonate_user:
    description:
      - User to act as.
      - Can also be set with E(K8S_AUTH_IMPERSONATE_USER).
    type: str
  impersonate_groups:
    description:
      - Groups to act as a member of.
      - Can also be set with E(K8S_AUTH_IMPERSONATE_GROUPS), joined with commas.
    type: list
    elements: str
requirements:
  - kubernetes >= 31.0.0 (not 36.0.0 or 36.0.1, which send no bearer token)
notes:
  - 'Order of the settings: O(host) with credentials; O(kubeconfig) or O(context); the service account of the pod;
    the default kubeconfig. Single options are laid over what was loaded. The result says under C(api) what was used.'
"""
