"""All faults by name."""

from tests.chaos.faults_of_data import FAULTS_OF_DATA
from tests.chaos.faults_of_keys import FAULTS_OF_KEYS
from tests.chaos.faults_of_lines import FAULTS_OF_LINES
from tests.chaos.faults_of_network import FAULTS_OF_THE_NETWORK
from tests.chaos.faults_of_nodes import FAULTS_OF_NODES
from tests.chaos.faults_of_results import FAULTS_OF_RESULTS
from tests.chaos.faults_of_sizes import FAULTS_OF_SIZES
from tests.chaos.faults_of_world import FAULTS_OF_SEVERAL_SNS, FAULTS_OF_THE_WORLD

FAULTS = {
    fault.name: fault
    for fault in (
        *FAULTS_OF_NODES,
        *FAULTS_OF_DATA,
        *FAULTS_OF_SIZES,
        *FAULTS_OF_RESULTS,
        *FAULTS_OF_LINES,
        *FAULTS_OF_KEYS,
        *FAULTS_OF_THE_WORLD,
        *FAULTS_OF_SEVERAL_SNS,
        *FAULTS_OF_THE_NETWORK,
    )
}
